"""Trainers that follow a plan: `python -m traintrue.adapters NAME describe|run`."""

import sys

from .protocol import main

raise SystemExit(main(sys.argv[1:]))
