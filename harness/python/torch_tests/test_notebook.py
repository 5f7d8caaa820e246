"""A notebook, cell by cell: recorded from `%load_ext traintrue` on, judged by `%traintrue`."""

from __future__ import annotations

import contextlib
import io
import os
import tempfile
import unittest
from typing import Any, Callable, Dict

import torch

import traintrue


class Shell:
    """What an extension asks of IPython's shell."""

    def __init__(self) -> None:
        self.magics: Dict[str, Callable[[str], None]] = {}

    def register_magic_function(self, function: Any, kind: str, name: str) -> None:
        assert kind == "line"
        self.magics[name] = function


def train(model: Any, optimizer: Any, clears: bool = True) -> None:
    for _ in range(6):
        model(torch.randn(4, 3)).pow(2).mean().backward()
        optimizer.step()
        if clears:
            optimizer.zero_grad()


class ANotebook(unittest.TestCase):
    def setUp(self) -> None:
        before, folder = os.getcwd(), tempfile.mkdtemp()
        os.chdir(folder)
        self.addCleanup(os.chdir, before)
        self.shell = Shell()
        traintrue.load_ipython_extension(self.shell)
        self.addCleanup(traintrue.unload_ipython_extension, self.shell)

    def verdict(self) -> str:
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(out):
            self.shell.magics["traintrue"]("")
        return out.getvalue()

    def test_is_judged_cell_by_cell(self) -> None:
        model = torch.nn.Linear(3, 1)
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
        train(model, optimizer)
        self.assertIn("✓ held", self.verdict())
        # A later cell goes on with the same optimizer.
        train(model, optimizer)
        self.assertIn("✓ held", self.verdict())
        train(model, optimizer, clears=False)
        self.assertIn("zero_grad() is missing", self.verdict())

    def test_that_trained_nothing_says_so(self) -> None:
        self.assertIn("no optimizer of torch.optim made a step", self.verdict())


if __name__ == "__main__":
    unittest.main()
