"""`python -m traintrue`: the command, with the same arguments."""

import os
import sys

from .command import CommandError, find

try:
    command = find()
except CommandError as error:
    sys.exit(f"traintrue: {error}")
os.execv(command, [command, *sys.argv[1:]])
