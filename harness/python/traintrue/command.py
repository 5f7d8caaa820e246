"""Has the command `traintrue` judge what was recorded."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import Any, Dict, List, NamedTuple, Tuple

VARIABLE, NAME = "TRAINTRUE", "traintrue"
INSTALL = f"install it with `pip install .` in a checkout of traintrue, or set {VARIABLE} to the path of the command"
# The exit statuses with a verdict: held, broken, not judged.
JUDGED = (0, 1, 3)

# pytest leaves the frames of this file out of a failure's traceback.
__tracebackhide__ = True

# The invariant, and the cause in the user's code.
Finding = Tuple[str, str]


class CommandError(RuntimeError):
    """The command is not there, or it cannot judge."""


class NotHeld(AssertionError):
    """A training that breaks an invariant, or of which nothing could be judged."""

    def __init__(self, message: str, findings: List[Finding]) -> None:
        super().__init__(message)
        self.findings = findings


# In a failure's text, the name that a test imports.
NotHeld.__module__ = NAME


class Verdict(NamedTuple):
    """What the command says of a trace."""

    findings: List[Finding]
    # What was not judged, and why; and what is waived.
    notes: List[str]
    # Why nothing was judged; empty where something was.
    nothing: str
    # The arguments of the command.
    words: List[str]

    def text(self) -> str:
        """The report for people. The command judges the trace again for it."""
        return _output(self.words)

    def hold(self, what: str) -> None:
        """Raises `NotHeld` unless something was judged, and is held."""
        if self.findings:
            rules = ", ".join(dict.fromkeys(rule for rule, _ in self.findings))
            raise NotHeld(f"{rules}: {what} is broken\n\n{self.text()}", self.findings)
        if self.nothing:
            raise nothing(what, self.nothing)


def nothing(what: str, reason: str) -> NotHeld:
    """A check that compared nothing never passes."""
    return NotHeld(f"not judged: {what}: {reason}", [("not judged", reason)])


def find() -> str:
    """The path of the command: that of the variable TRAINTRUE, or beside the Python that runs, or on the PATH."""
    named = os.environ.get(VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise CommandError(f"{VARIABLE}: {named} is not a program; expected the path of the command {NAME}")
        return found
    folder = os.path.dirname(sys.executable)
    found = shutil.which(NAME, path=folder) or shutil.which(NAME)
    if found is None:
        raise CommandError(f"the command {NAME} is neither in {folder} nor on the PATH: {INSTALL}")
    return found


def check(trace: str) -> Verdict:
    """Judges a trace by the invariants."""
    words = ["check", trace]
    outcomes = _document(words)["outcomes"]
    findings = [it for outcome in outcomes for it in outcome["findings"]]
    waived = [f"waived: {it['invariant']}: {it['waived']['reason']}" for it in findings if it.get("waived")]
    return Verdict(
        findings=[(it["invariant"], it["cause"]) for it in findings if not it.get("waived")],
        notes=[*(note for outcome in outcomes for note in outcome["notes"]), *waived],
        nothing="; ".join(it["reason"] or "" for it in outcomes if it["verdict"] == "not-judged"),
        words=words,
    )


def gate(trace: str, max_slope: str, lanes: List[str]) -> Verdict:
    """Judges the growth of memory in a trace."""
    words = ["gate", trace, "--max-slope", max_slope, *(word for lane in lanes for word in ("--lane", lane))]
    series = _document(words)["series"]
    unknown = [f"{it['lane']}: {it['reason']}" for it in series if it["verdict"] == "not-judged"]
    return Verdict(
        findings=[("max-slope", f"{it['lane']} {it['reason']}") for it in series if it["verdict"] == "exceeds"],
        notes=[f"not judged: {it}" for it in unknown],
        nothing="; ".join(unknown) if len(unknown) == len(series) else "",
        words=words,
    )


def _document(words: List[str]) -> Dict[str, Any]:
    return json.loads(_output([*words, "--format", "json"]))


def _output(words: List[str]) -> str:
    done = subprocess.run([find(), *words], capture_output=True, check=False, encoding="utf-8")
    if done.returncode not in JUDGED:
        raise CommandError(f"{NAME} {' '.join(words)}: exit status {done.returncode}: {done.stderr.strip()}")
    return done.stdout.strip()
