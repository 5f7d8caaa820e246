"""The trainer's side of the protocol: `describe` prints one line of JSON; `run` reads a plan and writes a trace."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import Any, Dict, List

from ..trace import SCHEMA, Writer, failure
from .table import TABLE
from .versions import installed

Plan = Dict[str, Any]


def main(words: List[str]) -> int:
    """Answers `NAME describe` or `NAME run`. Returns the exit status."""
    if len(words) != 2 or words[0] not in TABLE or words[1] not in ("describe", "run"):
        print(f"usage: python -m {__package__} {{{','.join(TABLE)}}} {{describe,run}}", file=sys.stderr)
        return 2
    name, verb = words
    adapter = TABLE[name]
    own = adapter.packages[0]
    if not installed(own):
        print(f"{name}: the package {own} is not installed here; `{sys.executable} -m pip install {own}`", file=sys.stderr)
        return 1
    # Standard output is the protocol's. Libraries print there too: whatever they print goes to standard error.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    description = {"schema": SCHEMA, **adapter.describe()}
    if verb == "describe":
        output.write(json.dumps(description) + "\n")
        output.close()
        return 0
    plan = json.load(sys.stdin)
    writer = Writer(open(plan["trace"], "w", encoding="utf-8") if plan.get("trace") else output)
    try:
        import_module(f".{adapter.module}", __package__).train(plan, writer, description)
    except Exception as error:
        writer.event("end", **failure(error))
        raise
    finally:
        writer.close()
    return 0
