"""The adapters, run by the command through scenarios of the suite."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path
from typing import Any, Dict

COMMAND = os.environ.get("TRAINTRUE", "traintrue")
OWN = Path(__file__).resolve().parents[3] / "golden" / "results" / "scenarios"


def outcomes(adapter: str, *scenarios: str) -> Dict[str, Any]:
    trainer = f"{sys.executable} -m traintrue.adapters {adapter}"
    words = [COMMAND, "run", *scenarios, "--scenarios", str(OWN), "--trainer", trainer, "--format", "json"]
    output = subprocess.run(words, capture_output=True, text=True, check=False)
    return {it["scenario"]: it for it in json.loads(output.stdout)["outcomes"]}


class ThePlainLoop(unittest.TestCase):
    def test_holds_what_it_claims(self) -> None:
        scenarios = ("accumulation-equivalence", "determinism", "evaluation-is-pure", "checkpoint-is-pure")
        for scenario, outcome in outcomes("plain", *scenarios, "peft-reload", "padding").items():
            with self.subTest(scenario):
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))


class HuggingFace(unittest.TestCase):
    def test_accumulates_as_one_batch(self) -> None:
        (outcome,) = outcomes("transformers", "accumulation-equivalence").values()
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_resumes_at_an_update(self) -> None:
        (outcome,) = outcomes("transformers", "resume-at-an-update").values()
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))


class Peft(unittest.TestCase):
    def test_brings_adapters_and_head_back(self) -> None:
        (outcome,) = outcomes("peft", "peft-reload").values()
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))


class ALoopWithAccelerate(unittest.TestCase):
    def test_accumulates_as_one_batch(self) -> None:
        (outcome,) = outcomes("accelerate", "accumulation-equivalence").values()
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))


if __name__ == "__main__":
    unittest.main()
