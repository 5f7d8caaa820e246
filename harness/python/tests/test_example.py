"""The example of an adapter keeps what the README promises. Needs no torch."""

from __future__ import annotations

import re
import unittest
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
EXAMPLE = ROOT / "examples" / "my_adapter.py"


class TheExample(unittest.TestCase):
    def test_has_at_most_60_lines_of_at_most_100_columns(self) -> None:
        lines = EXAMPLE.read_text(encoding="utf-8").splitlines()
        self.assertLessEqual(len(lines), 60)
        self.assertLessEqual(max(map(len, lines)), 100)

    def test_uses_nothing_private(self) -> None:
        self.assertEqual(re.findall(r"\b(?:self|traintrue[\w.]*)\._\w+|\bdef _\w+", EXAMPLE.read_text(encoding="utf-8")), [])

    def test_stands_in_the_readme(self) -> None:
        self.assertIn(EXAMPLE.read_text(encoding="utf-8"), (ROOT / "README.md").read_text(encoding="utf-8"))


if __name__ == "__main__":
    unittest.main()
