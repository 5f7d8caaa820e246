"""Loops of three other shapes than a language model: right ones are held over several seeds, by `record` and by `cut`, and each
planted bug is broken first by its invariant, with its cause.

The shapes are an encoder-decoder, a residual network with batch norms and averaged weights, and a diffusion model. `SEEDS` says
how many seeds a right loop is run with (default 2).
"""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path

from .shapes.bugs import BUGS
from .test_cut import cut
from .test_scripts import SEEDS, recorded, report_of

SHAPES = Path(__file__).resolve().parent / "shapes"
# A place inside a window of the second epoch, of each loop.
CUTS = {"sequences": "42", "pictures": "33", "diffusion": "36"}


class ALoopOfAnotherShape(unittest.TestCase):
    maxDiff = None

    def test_that_is_right_is_held(self) -> None:
        for name in BUGS:
            for seed in range(SEEDS):
                with self.subTest(name, seed=seed):
                    outcome = recorded(SHAPES / f"{name}.py", "--seed", str(seed))
                    self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))
            with self.subTest(name, how="cut"):
                outcome = cut(SHAPES / f"{name}.py", "--at", CUTS[name])
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_with_a_planted_bug_is_broken_by_its_cause(self) -> None:
        for name, bugs in BUGS.items():
            original = (SHAPES / f"{name}.py").read_text(encoding="utf-8")
            for number, bug in enumerate(bugs):
                with self.subTest(name, bug=number, new=bug.changes[0][1]), tempfile.TemporaryDirectory() as folder:
                    text = original
                    for old, new in bug.changes:
                        self.assertIn(old, text)
                        text = text.replace(old, new, 1)
                    script = Path(folder) / f"{name}.py"
                    script.write_text(text, encoding="utf-8")
                    outcome = cut(script, "--at", CUTS[name]) if bug.how == "cut" else recorded(script, options=bug.how.split())
                    first = (outcome["findings"] or [{"invariant": "held", "cause": ""}])[0]
                    self.assertEqual(first["invariant"], bug.invariant)
                    self.assertIn(bug.cause, first["cause"])

    def test_that_keeps_its_graphs_is_noted_with_the_command_that_judges_it(self) -> None:
        text = (SHAPES / "sequences.py").read_text(encoding="utf-8")
        text = text.replace("running, history = 0.0, []", "running = 0.0").replace("history.append(loss.item())", "history.append(logits)")
        text = text.replace("    start, best, step = 0,", "    history = []\n    start, best, step = 0,")
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "sequences.py"
            script.write_text(text, encoding="utf-8")
            leaking = report_of([sys.executable, str(script), "--epochs", "6"])["notes"]
        self.assertTrue(any("rss_bytes grows by" in note and "traintrue gate" in note for note in leaking), leaking)
        right = report_of([sys.executable, str(SHAPES / "sequences.py"), "--epochs", "6"])
        self.assertEqual(right.get("notes", []), [])

    def test_that_fails_says_so_beside_its_verdict(self) -> None:
        text = (SHAPES / "sequences.py").read_text(encoding="utf-8")
        with tempfile.TemporaryDirectory() as folder:
            script = Path(folder) / "sequences.py"
            script.write_text(text.replace("        valid_loss, accuracy =", "        assert epoch < 2\n        valid_loss, accuracy ="), encoding="utf-8")
            report = report_of([sys.executable, str(script)])
        self.assertIn("the command ended with exit status 1: what it did until then is judged", report["notes"])
        self.assertEqual(report["outcomes"][0]["verdict"], "held")


if __name__ == "__main__":
    unittest.main()
