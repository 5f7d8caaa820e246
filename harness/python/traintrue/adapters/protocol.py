"""The trainer's side of the protocol: `describe` prints one line of JSON; `run` reads a plan and writes a trace; `serve` does
the latter in a fork per run."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from typing import IO, Any, Callable, Dict, List

from ..trace import SCHEMA, Writer, failure
from .serve import serve
from .table import TABLE
from .versions import installed

Plan = Dict[str, Any]
VERBS = ("describe", "run", "serve")


class Declined(Exception):
    """The trainer cannot carry out this plan, and the message says why: `no adapters in this model`. The run is then not
    judged. Only before the first micro-batch."""


def main(words: List[str]) -> int:
    """Answers `NAME describe` or `NAME run`, with arguments for the trainer between the two. Returns the exit status."""
    if len(words) < 2 or words[0] not in TABLE or words[-1] not in VERBS:
        print(f"usage: python -m {__package__} {{{','.join(TABLE)}}} [ARGUMENTS] {{{','.join(VERBS)}}}", file=sys.stderr)
        return 2
    name, *own, verb = words
    adapter = TABLE[name]
    package = adapter.packages[0]
    if not installed(package):
        print(f"{name}: the package {package} is not installed here; `{sys.executable} -m pip install {package}`", file=sys.stderr)
        return 1
    sys.argv[1:] = own
    description = adapter.describe()

    def run(plan: Plan, writer: Writer) -> None:
        import_module(f".{adapter.module}", __package__).train(plan, writer, description)

    if verb == "serve":
        import_module(f".{adapter.module}", __package__)
    return answer(verb, description, run)


def answer(verb: str, description: Dict[str, Any], run: Callable[[Plan, Writer], None]) -> int:
    """Answers one verb; `run` carries out a plan. Returns the exit status."""

    def run_one() -> int:
        carry_out(json.load(sys.stdin), protocol_output(), description, run)
        return 0

    if verb == "describe":
        with protocol_output() as output:
            output.write(json.dumps({"schema": SCHEMA, **description}) + "\n")
        return 0
    return serve(protocol_output(), run_one) if verb == "serve" else run_one()


def protocol_output() -> IO[str]:
    """Standard output as it was."""
    # Standard output is the protocol's. Libraries print there too: whatever they print goes to standard error.
    output = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return output


def carry_out(plan: Plan, output: IO[str], description: Dict[str, Any], run: Callable[[Plan, Writer], None]) -> None:
    """Carries out a plan. Writes the trace where the plan says, or to `output`, to its last line whatever happens."""
    writer = Writer(open(plan["trace"], "w", encoding="utf-8") if plan.get("trace") else output)
    try:
        run(plan, writer)
    except Declined as declined:
        if not writer.begun:
            opening(writer, plan, description["trainer"], description["contract"])
        writer.event("end", reason="declined", message=str(declined))
    except Exception as error:
        writer.event("end", **failure(error))
        raise
    finally:
        writer.close()


def opening(writer: Writer, plan: Plan, trainer: str, contract: Dict[str, Any], device: str = "cpu") -> None:
    """The first line of a trace: the plan again, and the conventions that the run keeps."""
    header = {"schema": SCHEMA, "trainer": trainer, "device": device}
    writer.event("run", **header, scenario=plan["scenario"], run=plan["run"], plan=plan, contract=contract)
