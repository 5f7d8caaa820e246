"""The table of adapters, and the command over it. Running an adapter needs torch: see torch_tests."""

from __future__ import annotations

import contextlib
import io
import unittest
from pathlib import Path
from unittest import mock

import traintrue.adapters
from traintrue.adapters.protocol import main
from traintrue.adapters.table import TABLE


def answer(*words: str) -> tuple:
    """The exit status and what was printed to standard error."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said):
        status = main(list(words))
    return status, said.getvalue()


class TheCommand(unittest.TestCase):
    def test_names_every_adapter_where_it_is_not_understood(self) -> None:
        for words in ((), ("plain",), ("nobody", "run"), ("plain", "walk"), ("plain", "run", "more")):
            status, said = answer(*words)
            self.assertEqual(status, 2)
            self.assertIn("{plain,ddp,transformers,lightning,accelerate,peft} [ARGUMENTS] {describe,run,serve}", said)

    def test_says_which_package_is_not_installed(self) -> None:
        adapter = TABLE["lightning"]._replace(packages=("no-such-trainer", "torch"))
        with mock.patch.dict(TABLE, lightning=adapter):
            status, said = answer("lightning", "describe")
        self.assertEqual(status, 1)
        self.assertIn("lightning: the package no-such-trainer is not installed", said)


class AnAdapter(unittest.TestCase):
    def test_has_a_module_that_trains(self) -> None:
        for name, adapter in TABLE.items():
            with self.subTest(name):
                text = (Path(traintrue.adapters.__file__).parent / f"{adapter.module}.py").read_text()
                self.assertIn("def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:", text)

    def test_describes_the_whole_contract(self) -> None:
        for name, adapter in TABLE.items():
            with self.subTest(name):
                contract = adapter.describe()["contract"]
                known = {"tail", "normaliser", "gradients", "first_lr", "rows_per_sample", "deterministic"}
                self.assertEqual((set(contract), contract["deterministic"]), (known, True))


if __name__ == "__main__":
    unittest.main()
