"""The trainer's side of the protocol: `describe` prints one line; `run` reads a plan and writes a trace."""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable, Dict

from ..trace import SCHEMA, Writer

Plan = Dict[str, Any]


def main(describe: Callable[[], Dict[str, Any]], run: Callable[[Plan, Writer, Dict[str, Any]], None]) -> int:
    """Answers the one argument; `run` is given the plan, the trace and what `describe` says. Returns the exit status."""
    verb = sys.argv[1] if len(sys.argv) == 2 else None
    if verb not in ("describe", "run"):
        print(f"usage: python -m {__package__}.NAME describe|run", file=sys.stderr)
        return 2
    # Whatever a library prints goes to standard error: standard output is the trace's.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    description = {"schema": SCHEMA, **describe()}
    if verb == "describe":
        output.write(json.dumps(description) + "\n")
        output.close()
        return 0
    plan = json.load(sys.stdin)
    trace = Writer(open(plan["trace"], "w", encoding="utf-8") if plan.get("trace") else output)
    try:
        run(plan, trace, description)
    except Exception as error:
        trace.event("end", reason="error", message=f"{type(error).__name__}: {error}")
        trace.close()
        raise
    trace.close()
    return 0
