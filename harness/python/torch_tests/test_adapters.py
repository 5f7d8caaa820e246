"""The adapters, run by the command through scenarios of the suite."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict

from traintrue.adapters import ddp_loop

COMMAND = os.environ.get("TRAINTRUE", "traintrue")
OWN = Path(__file__).resolve().parents[3] / "golden" / "results" / "scenarios"


def outcomes(adapter: str, *scenarios: str, path: str = "") -> Dict[str, Any]:
    """The outcomes by scenario; the package may stand in another folder, `path`."""
    trainer = f"{sys.executable} -m traintrue.adapters {adapter}"
    words = [COMMAND, "run", *scenarios, "--scenarios", str(OWN), "--trainer", trainer, "--format", "json"]
    # A module is looked for in the working folder first.
    output = subprocess.run(words, capture_output=True, text=True, check=False, cwd=path or None)
    return {it["scenario"]: it for it in json.loads(output.stdout)["outcomes"]}


class ThePlainLoop(unittest.TestCase):
    def test_holds_what_it_claims(self) -> None:
        scenarios = ("accumulation-equivalence", "determinism", "evaluation-is-pure", "checkpoint-is-pure")
        for scenario, outcome in outcomes("plain", *scenarios, "peft-reload", "padding").items():
            with self.subTest(scenario):
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))


# A bug of the loop of several ranks: the text that is replaced, the text in its place, and the invariant and a part of the cause of the
# first finding.
TRAINS = "(self.wrapped if torch.is_grad_enabled() and self.model.training else self.model)(batch)"
OWN_FOLDER = "super().load(self._own(root), what)"
OF_RANK_0 = 'super().load(root / "rank-0" if self.together else root, what)'
BUGS = [
    (TRAINS, "self.model(batch)", "ranks/mean-gradient", "rank 0 applies its own gradients alone"),
    ("not self.closes()", "self.closes()", "ranks/mean-gradient", "the last micro-batch of the window is averaged nowhere"),
    ("dist.all_reduce(all_ranks)", "all_ranks *= self.world", "ranks/mean-gradient", "each divides its loss by its own"),
    ("(all_ranks / self.world)", "all_ranks", "ranks/mean-gradient", "0.50 times the mean over the ranks"),
    ("+ self.rank + 1", "+ 1", "ranks/own-dropout", "from one stream"),
    ("dist.all_reduce(sums)", "pass", "ranks/evaluate-once", "reports the mean of its own share"),
    (OWN_FOLDER, OF_RANK_0, "ranks/own-state", "the random stream of rank 0"),
]


class SeveralRanks(unittest.TestCase):
    def test_hold_the_scenario_of_ranks(self) -> None:
        (outcome,) = outcomes("ddp", "ranks-train-together").values()
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_with_a_planted_bug_are_broken_by_its_cause(self) -> None:
        text = Path(ddp_loop.__file__).read_text(encoding="utf-8")
        for old, new, invariant, cause in BUGS:
            with self.subTest(new), tempfile.TemporaryDirectory() as folder:
                self.assertIn(old, text)
                package = Path(shutil.copytree(Path(ddp_loop.__file__).parents[1], Path(folder) / "traintrue"))
                (package / "adapters" / "ddp_loop.py").write_text(text.replace(old, new, 1), encoding="utf-8")
                (outcome,) = outcomes("ddp", "ranks-train-together", path=folder).values()
                first = outcome["findings"][0] if outcome["findings"] else {"invariant": "held", "cause": ""}
                self.assertEqual(first["invariant"], invariant, first)
                self.assertIn(cause, first["cause"])


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
