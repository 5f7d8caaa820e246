"""A training with a callback gets the verdict that `traintrue record` gives the same script without it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Tuple

from .test_scripts import BUGS, COMMAND, SCRIPTS, recorded

PACKAGE = Path(__file__).resolve().parent.parent

# A script, and its Trainer without and with the callback.
TRAINERS: List[Tuple[str, str, str]] = [
    ("transformers_trainer", "data_collator=collate)", "data_collator=collate, callbacks=[transformers.TraintrueCallback({})])"),
    ("lightning_module", "    max_epochs=3,", "    max_epochs=3, callbacks=[callback.TraintrueCallback({})],"),
]
IMPORTS = {
    "transformers_trainer": "from traintrue.callbacks import transformers\n",
    "lightning_module": "from traintrue.callbacks import lightning as callback\n",
}


def with_callback(text: str, name: str, old: str, new: str, arguments: str = "") -> str:
    if old not in text:
        raise AssertionError(f"{name}: no {old}")
    return IMPORTS[name] + text.replace(old, new.format(arguments), 1)


def run(text: str) -> "Tuple[subprocess.CompletedProcess[str], Dict[str, Any]]":
    """Runs a script, and judges the trace that its callback left."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "script.py")
        script.write_text(text, encoding="utf-8")
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PACKAGE)}
        done = subprocess.run([sys.executable, str(script)], cwd=folder, env=environment, capture_output=True, text=True, check=False)
        words = [COMMAND, "check", "traintrue-record/run.jsonl", "--format", "json"]
        checked = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    if not checked.stdout:
        raise AssertionError(f"no trace\n{done.stdout}\n{done.stderr}\n{checked.stderr}")
    return done, json.loads(checked.stdout)["outcomes"][0]


def verdict(outcome: Dict[str, Any]) -> Tuple[Any, ...]:
    findings = [{name: it[name] for name in ("invariant", "cause", "at", "expected", "actual")} for it in outcome["findings"]]
    return outcome["verdict"], outcome["observed"], outcome["notes"], findings


class ACallback(unittest.TestCase):
    maxDiff = None

    def test_gives_the_verdict_of_record(self) -> None:
        for name, old, new in TRAINERS:
            clean = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
            for number, (right, wrong, *_) in enumerate([("", "", "", ""), *BUGS[name]]):
                with self.subTest(name, bug=number):
                    text = clean.replace(right, wrong, 1) if right else clean
                    done, outcome = run(with_callback(text, name, old, new))
                    self.assertEqual(done.returncode, 0, done.stderr)
                    with tempfile.TemporaryDirectory() as folder:
                        Path(folder, "script.py").write_text(text, encoding="utf-8")
                        self.assertEqual(verdict(outcome), verdict(recorded(Path(folder, "script.py"))))
                    self.assertIn("held        recorded" if not right else "broken      recorded", done.stdout)

    def test_that_is_strict_raises_at_the_end_of_a_broken_training(self) -> None:
        for name, old, new in TRAINERS:
            clean = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
            right, wrong, invariant, _ = BUGS[name][0]
            with self.subTest(name):
                done, _ = run(with_callback(clean, name, old, new, "strict=True"))
                self.assertEqual(done.returncode, 0, done.stderr)
                done, _ = run(with_callback(clean.replace(right, wrong, 1), name, old, new, "strict=True"))
                self.assertIn(f"traintrue.NotHeld: {invariant}: the training is broken", done.stderr)

    def test_without_the_command_says_so_and_trains(self) -> None:
        name, old, new = TRAINERS[0]
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
        done, outcome = run("import os\nos.environ['TRAINTRUE'] = '/no/where'\n" + with_callback(text, name, old, new))
        self.assertEqual((done.returncode, outcome["verdict"]), (0, "held"), done.stderr)
        self.assertIn("this training is recorded and not judged: TRAINTRUE: /no/where is not a program", done.stderr)

    def test_refuses_a_wrong_declaration_before_any_training(self) -> None:
        name, old, new = TRAINERS[0]
        text = with_callback((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"), name, old, new, "acumulation=4")
        self.assertRaisesRegex(AssertionError, "unknown acumulation; expected some of", run, text)


if __name__ == "__main__":
    unittest.main()
