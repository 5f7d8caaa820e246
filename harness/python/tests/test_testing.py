"""A training in a test: how the command is found, what its verdict raises, and what stays of the recording."""

from __future__ import annotations

import contextlib
import io
import json
import os
import stat
import sys
import tempfile
import unittest
import warnings
from pathlib import Path
from typing import Any, Dict, List, Optional
from unittest import mock

import traintrue
from traintrue import command
from traintrue.growth import growth
from traintrue.testing import Trial, tell

FINDING = {"invariant": "loop/window", "cause": "zero_grad() is missing"}
WAIVED = {**FINDING, "waived": {"reason": "known", "until": "2030-01-01"}}


def outcome(verdict: str, *, findings: Optional[List[Dict[str, Any]]] = None, notes: Optional[List[str]] = None, reason: Optional[str] = None) -> str:
    return json.dumps({"outcomes": [{"verdict": verdict, "findings": findings or [], "notes": notes or [], "reason": reason}]})


def lane(name: str, verdict: str, reason: str) -> Dict[str, str]:
    return {"lane": name, "verdict": verdict, "reason": reason}


class Recording:
    """Stands for a recorder: it writes a trace, and has seen so many updates."""

    def __init__(self, path: str, updates: int) -> None:
        Path(path).write_text("{}\n", encoding="utf-8")
        self.path, self.updates, self.closed = path, updates, False
        self.error: Optional[BaseException] = None

    def close(self, error: Optional[BaseException] = None) -> None:
        self.closed, self.error = True, error


class WithACommand(unittest.TestCase):
    """A command that answers what a test wants."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        mock.patch.dict(os.environ, {"TRAINTRUE": str(self.program(self.folder / "fake"))}).start()
        self.addCleanup(mock.patch.stopall)

    def program(self, path: Path, document: str = "{}", status: int = 0, stderr: str = "") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        code = f"#!{sys.executable}\nimport sys\nprint({document!r} if 'json' in sys.argv else 'the report for people')\nprint({stderr!r}, file=sys.stderr)\nsys.exit({status})\n"
        path.write_text(code, encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return path

    def answer(self, document: str, status: int, stderr: str = "") -> None:
        self.program(self.folder / "fake", document, status, stderr)


class TheCommand(WithACommand):
    def found(self, variable: Optional[str], beside: bool, on_path: bool) -> str:
        for there, place in ((beside, "beside"), (on_path, "path")):
            if there:
                self.program(self.folder / place / "traintrue")
        environment = {"PATH": str(self.folder / "path"), **({} if variable is None else {"TRAINTRUE": variable})}
        with mock.patch.dict(os.environ, environment, clear=True), mock.patch.object(sys, "executable", str(self.folder / "beside" / "python")):
            return str(Path(command.find()).relative_to(self.folder))

    def test_is_that_of_the_variable_before_all_others(self) -> None:
        self.assertEqual(self.found(str(self.folder / "fake"), beside=True, on_path=True), "fake")

    def test_is_otherwise_beside_python_and_then_on_the_path(self) -> None:
        self.assertEqual(self.found(None, beside=False, on_path=True), "path/traintrue")
        self.assertEqual(self.found(None, beside=True, on_path=True), "beside/traintrue")

    def test_that_is_nowhere_is_an_error_that_says_what_to_install(self) -> None:
        with self.assertRaisesRegex(traintrue.CommandError, r"neither in .*beside nor on the PATH: .*pip install \..*TRAINTRUE"):
            self.found(None, beside=False, on_path=False)

    def test_that_the_variable_names_and_is_not_there_is_an_error(self) -> None:
        with self.assertRaisesRegex(traintrue.CommandError, "TRAINTRUE: /no/where is not a program"):
            self.found("/no/where", beside=True, on_path=True)

    def test_that_cannot_judge_is_an_error_with_its_own_words(self) -> None:
        self.answer("", 2, "traintrue: line 3: no event")
        with self.assertRaisesRegex(traintrue.CommandError, "exit status 2: traintrue: line 3: no event"):
            command.check("run.jsonl")


class AVerdict(WithACommand):
    def test_that_is_held_raises_nothing_and_keeps_what_was_not_judged(self) -> None:
        self.answer(outcome("held", notes=["not judged: the clip"]), 0)
        verdict = command.check("run.jsonl")
        verdict.hold("the training")
        self.assertEqual(verdict.notes, ["not judged: the clip"])

    def test_that_is_broken_raises_the_report_and_the_findings(self) -> None:
        self.answer(outcome("broken", findings=[FINDING, FINDING, WAIVED]), 1)
        with self.assertRaises(traintrue.NotHeld) as raised:
            command.check("run.jsonl").hold("the training")
        self.assertEqual(str(raised.exception), "loop/window: the training is broken\n\nthe report for people")
        self.assertEqual(raised.exception.findings, [("loop/window", "zero_grad() is missing")] * 2)

    def test_whose_findings_are_waived_is_held_and_says_so(self) -> None:
        self.answer(outcome("waived", findings=[WAIVED]), 0)
        verdict = command.check("run.jsonl")
        verdict.hold("the training")
        self.assertEqual(verdict.notes, ["waived: loop/window: known"])

    def test_of_which_nothing_was_judged_is_not_held(self) -> None:
        self.answer(outcome("not-judged", reason="no optimizer made a step"), 3)
        with self.assertRaisesRegex(AssertionError, "^not judged: the training: no optimizer made a step$"):
            command.check("run.jsonl").hold("the training")

    def test_of_memory_is_held_if_one_lane_is_judged_and_none_grows(self) -> None:
        within, unknown, exceeds = lane("a", "within", "grows by 0 B"), lane("b", "not-judged", "too few"), lane("c", "exceeds", "grows by 9 MiB")
        for series, message in (([within, unknown], None), ([unknown], "^not judged: memory: b: too few"), ([within, exceeds, unknown], "^max-slope: memory is broken")):
            with self.subTest(series=series):
                self.answer(json.dumps({"series": series}), 0)
                verdict = command.gate("run.jsonl", "1KiB/step", [])
                if message is None:
                    verdict.hold("memory")
                    self.assertEqual(verdict.notes, ["not judged: b: too few"])
                else:
                    self.assertRaisesRegex(AssertionError, message, verdict.hold, "memory")


class ATrial(WithACommand):
    def trial(self, updates: int = 3) -> Trial:
        return Trial("the training", "in the block", lambda trace: Recording(trace, updates), command.check)  # type: ignore[arg-type, return-value]

    def test_that_is_held_leaves_no_file(self) -> None:
        self.answer(outcome("held", notes=["not judged: the clip"]), 0)
        trial = self.trial()
        recording = trial.begin()
        self.assertEqual(trial.judge(), ["not judged: the clip"])
        self.assertTrue(recording.closed)
        self.assertFalse(Path(recording.path).parent.exists())

    def test_that_is_broken_leaves_the_trace_that_the_finding_names(self) -> None:
        self.answer(outcome("broken", findings=[FINDING]), 1)
        trial = self.trial()
        recording = trial.begin()
        self.assertRaises(traintrue.NotHeld, trial.judge)
        self.assertTrue(Path(recording.path).exists())

    def test_without_an_update_is_not_held_whatever_the_command_says(self) -> None:
        self.answer(outcome("held"), 0)
        trial = self.trial(updates=0)
        recording = trial.begin()
        self.assertRaisesRegex(traintrue.NotHeld, "no optimizer of torch.optim made a step in the block", trial.judge)
        self.assertFalse(Path(recording.path).parent.exists())

    def test_without_a_command_ends_before_the_training(self) -> None:
        with mock.patch.dict(os.environ, {"TRAINTRUE": "/no/where"}):
            self.assertRaises(traintrue.CommandError, self.trial().begin)

    def test_of_a_block_that_raises_lets_the_exception_through(self) -> None:
        self.answer(outcome("broken", findings=[FINDING]), 1)
        error = KeyError("mine")
        with mock.patch("traintrue.testing.record", lambda trace, *_, **__: Recording(trace, 3)):
            with self.assertRaises(KeyError) as raised, traintrue.held(None, None) as recording:
                raise error
        self.assertIs(raised.exception, error)
        self.assertIs(recording.error, error)  # type: ignore[attr-defined]
        self.assertFalse(Path(recording.path).parent.exists())  # type: ignore[attr-defined]


class WhatWasNotJudged(unittest.TestCase):
    def test_is_a_warning(self) -> None:
        with self.assertWarnsRegex(traintrue.NotJudgedWarning, "not judged: a\nnot judged: b"):
            tell(["not judged: a", "not judged: b"], warnings.warn)

    def test_fails_no_test_where_warnings_are_errors(self) -> None:
        printed = io.StringIO()
        with warnings.catch_warnings(), contextlib.redirect_stderr(printed):
            warnings.simplefilter("error")
            tell(["not judged: a"], warnings.warn)
        self.assertEqual(printed.getvalue(), "traintrue: not judged: a\n")


class ALimit(unittest.TestCase):
    def test_that_the_command_would_refuse_is_refused(self) -> None:
        for slope in ("64", "64KiB", "64KB/step", "64kib/step", "KiB/step", "-1KiB/step", 64, None):
            with self.subTest(slope), self.assertRaisesRegex(ValueError, "max_slope: .*64KiB/step"):
                growth(slope)  # type: ignore[arg-type]
        for lanes in ("rss_bytes", ["rss"]):
            with self.subTest(lanes), self.assertRaisesRegex(ValueError, "lanes: .*rss_bytes"):
                growth("64KiB/step", lanes)

    def test_that_the_command_takes_is_taken(self) -> None:
        for slope in ("64KiB/step", "0B/step", "1.5 MiB/step"):
            with self.subTest(slope):
                growth(slope, ["tracked_bytes"])


if __name__ == "__main__":
    unittest.main()
