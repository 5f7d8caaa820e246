"""Plain PyTorch loops, recorded, then judged by the command: `TRAINTRUE` in the environment, or `traintrue` on the path."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, Set

COMMAND = os.environ.get("TRAINTRUE", "traintrue")


def recorded(how: str) -> Path:
    trace = Path(tempfile.mkdtemp()) / f"{how}.jsonl"
    subprocess.run([sys.executable, "-m", "torch_tests.loop", how, str(trace)], check=True, capture_output=True)
    return trace


def judged(trace: Path) -> Dict[str, Any]:
    words = [COMMAND, "check", str(trace), "--format", "json"]
    output = subprocess.run(words, capture_output=True, text=True, check=False)
    return json.loads(output.stdout)["outcomes"][0]


class ARightLoop(unittest.TestCase):
    def test_is_held(self) -> None:
        for how in ("right", "workers", "frozen", "tail-dropped"):
            with self.subTest(how):
                outcome = judged(recorded(how))
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_shows_a_step_that_its_scaler_skips_and_is_held(self) -> None:
        trace = recorded("overflows")
        updates = [it for it in map(json.loads, trace.read_text().splitlines()) if it["event"] == "update"]
        self.assertEqual([it["step"] for it in updates if not it["applied"]], [10])
        outcome = judged(trace)
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))


class AWrongLoop(unittest.TestCase):
    CAUGHT = {
        "never-cleared": "loop/window",
        "cleared-a-micro-batch": "loop/window",
        "schedule-a-micro-batch": "schedule/closed-form",
        "not-in-the-optimizer": "loop/optimizer",
        "nan": "finite/everywhere",
        "not-clipped": "loop/clip",
        "evaluated-in-training-mode": "loop/evaluation",
    }

    def test_is_broken_by_what_must_see_it(self) -> None:
        for how, invariant in self.CAUGHT.items():
            with self.subTest(how):
                broke: Set[str] = {it["invariant"] for it in judged(recorded(how))["findings"]}
                self.assertIn(invariant, broke)

    def test_that_keeps_tensors_is_seen_by_the_gate(self) -> None:
        words = [COMMAND, "gate", str(recorded("kept")), "--max-slope", "64KiB/step", "--format", "json"]
        output = subprocess.run(words, capture_output=True, text=True, check=False)
        verdicts = {it["lane"]: it["verdict"] for it in json.loads(output.stdout)["series"]}
        self.assertEqual(verdicts["rss_bytes"], "exceeds")


if __name__ == "__main__":
    unittest.main()
