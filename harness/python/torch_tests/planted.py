"""Runs a trainer of these tests, with something wrong in it, through a scenario."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any, Dict

COMMAND = os.environ.get("TRAINTRUE", "traintrue")


def outcome(module: str, which: str, scenario: str) -> Dict[str, Any]:
    """The outcome of `scenario`, by `python -m torch_tests.MODULE WHICH`."""
    trainer = f"{sys.executable} -m torch_tests.{module} {which}"
    words = [COMMAND, "run", scenario, "--trainer", trainer, "--format", "json"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"})
    if not done.stdout:
        raise AssertionError(f"{words}: no report\n{done.stderr}")
    return json.loads(done.stdout)["outcomes"][0]
