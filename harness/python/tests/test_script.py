"""A script that is recorded runs, prints and exits as before."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Dict

PACKAGE = Path(__file__).resolve().parent.parent


class AScript(unittest.TestCase):
    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp())

    def run_python(self, code: str, **files: str) -> "subprocess.CompletedProcess[str]":
        """Runs `code` as a recorded script. `files` are modules beside it."""
        for name, text in files.items():
            (self.folder / f"{name}.py").write_text(text, encoding="utf-8")
        paths = [PACKAGE / "traintrue" / "hook", PACKAGE, self.folder]
        environment: Dict[str, str] = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(map(str, paths)),
            "TRAINTRUE_RECORD": str(self.folder / "traces"),
        }
        return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)

    def test_without_torch_is_left_alone(self) -> None:
        done = self.run_python("print('trained'); raise SystemExit(5)")
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("trained\n", "", 5))
        self.assertEqual([it.name for it in (self.folder / "traces").iterdir()], ["started"])

    def test_keeps_the_sitecustomize_that_is_there(self) -> None:
        done = self.run_python("import os; print(os.environ['MINE'])", sitecustomize="import os; os.environ['MINE'] = 'seen'")
        self.assertEqual((done.stdout, done.returncode), ("seen\n", 0))

    def test_goes_on_when_the_recorder_cannot_be_attached(self) -> None:
        done = self.run_python("import torch; print(torch.answer)", torch="answer = 42")
        self.assertEqual((done.stdout, done.returncode), ("42\n", 0))
        self.assertIn("traintrue: this process is not recorded: ", done.stderr)

    def test_may_ask_for_torch_before_it_imports_it(self) -> None:
        code = "import importlib.util; assert importlib.util.find_spec('torch')\nimport torch"
        self.run_python(code, torch="answer = 42")
        self.assertIn("torch", [it.name for it in (self.folder / "traces").iterdir()])

    def test_that_fails_shows_its_own_traceback(self) -> None:
        done = self.run_python("import torch\nraise RuntimeError('mine')", torch="answer = 42")
        self.assertIn("RuntimeError: mine", done.stderr)
        self.assertEqual(done.returncode, 1)


if __name__ == "__main__":
    unittest.main()
