"""Adapter folders that PEFT has written, checked by the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Optional, Set, Tuple

COMMAND = os.environ.get("TRAINTRUE", "traintrue")


class WhatPeftWrites(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        cls.folder = Path(tempfile.mkdtemp())
        words = [sys.executable, "-m", "torch_tests.adapter_folders", str(cls.folder)]
        subprocess.run(words, check=True, capture_output=True)

    def judged(self, name: str, against: Optional[str] = None) -> Tuple[str, Set[str]]:
        words = [COMMAND, "check", str(self.folder / name), "--format", "json"]
        words += ["--against", str(self.folder / against)] if against else []
        output = subprocess.run(words, capture_output=True, text=True, check=False)
        (outcome,) = json.loads(output.stdout)["outcomes"]
        return outcome["verdict"], {it["invariant"] for it in outcome["findings"]}

    def test_is_held(self) -> None:
        for name in ("early", "late", "alpha-below-r"):
            with self.subTest(name):
                self.assertEqual(self.judged(name), ("held", set()))
        self.assertEqual(self.judged("late", against="early"), ("held", set()))

    def test_is_broken_where_nothing_was_learnt(self) -> None:
        self.assertEqual(self.judged("untrained"), ("broken", {"artefact/adapter-learns"}))
        self.assertEqual(self.judged("head-frozen", against="early"), ("broken", {"artefact/moves"}))


if __name__ == "__main__":
    unittest.main()
