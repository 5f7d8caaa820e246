"""A real loop in a real pytest: `held` and the marker `traintrue_memory`, in the terminal, in JUnit XML and for GitHub."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path
from typing import Dict, List, NamedTuple

PACKAGE = Path(__file__).resolve().parent.parent

TRAINING = '''
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import traintrue

KEPT = []


@pytest.fixture
def parts():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 4))
    data = TensorDataset(torch.randn(103, 16), torch.randint(0, 4, (103,)))
    return model, torch.optim.AdamW(model.parameters(), lr=1e-2), DataLoader(data, batch_size=8, shuffle=True)


def train(model, optimizer, loader, epochs=3, accumulation=4, clears=True, keeps=0):
    for _ in range(epochs):
        for index, (inputs, classes) in enumerate(loader):
            loss = nn.functional.cross_entropy(model(inputs), classes)
            (loss / accumulation).backward()
            if (index + 1) % accumulation == 0 or index + 1 == len(loader):
                optimizer.step()
                if clears:
                    optimizer.zero_grad()
            if keeps:
                KEPT.append(torch.zeros(keeps) + loss.detach())
'''

HELD = """
def test_clean(parts):
    with traintrue.held(*parts, epochs=3, accumulation=4):
        train(*parts)


def test_never_cleared(parts):
    with traintrue.held(*parts, epochs=3, accumulation=4):
        train(*parts, clears=False)


def test_raises(parts):
    with traintrue.held(*parts):
        train(*parts)
        raise KeyError("mine")


def test_trains_nothing(parts):
    with traintrue.held(*parts):
        pass
"""

# The line on which the test begins.
LINE = (TRAINING + HELD).split("def test_never_cleared")[0].count("\n") + 1
ANNOTATION = f"::error file=test_mine.py,line={LINE},title=loop/window::"

MEMORY = """
@pytest.mark.traintrue_memory(max_slope="64KiB/step", lanes=["tracked_bytes"])
class TestMemory:
    def test_flat(self, parts):
        train(*parts, epochs=4, accumulation=1)

    def test_keeps_tensors(self, parts):
        train(*parts, epochs=4, accumulation=1, keeps=50_000)

    def test_is_too_short(self, parts):
        train(*parts, epochs=1, accumulation=1)

    def test_trains_nothing(self, parts):
        pass

    def test_raises(self, parts):
        train(*parts, epochs=4, accumulation=1, keeps=50_000)
        raise KeyError("mine")

    def test_skips(self, parts):
        pytest.skip("not here")
"""


class Ran(NamedTuple):
    """What pytest printed, and per test its outcome and its properties."""

    printed: str
    failures: Dict[str, str]
    properties: Dict[str, List[str]]
    status: int


def run(*parts: str, options: str = "", **environment: str) -> Ran:
    """Runs pytest on a file with these parts."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "test_mine.py").write_text("".join(parts), encoding="utf-8")
        # Installed, the package names the plugin to pytest; from the folder it is named here.
        words = [sys.executable, "-m", "pytest", "-p", "traintrue.pytest_plugin", "--strict-markers", "--junitxml=junit.xml", *options.split()]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "PYTEST_"))}
        variables = {**inherited, "PYTHONPATH": str(PACKAGE), "OMP_NUM_THREADS": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", **environment}
        done = subprocess.run(words, cwd=folder, env=variables, capture_output=True, text=True, check=False)
        cases = list(xml.etree.ElementTree.parse(Path(folder, "junit.xml")).iter("testcase"))
    failures = {it.get("name", ""): "".join(found.text or "" for kind in ("failure", "error") for found in it.iter(kind)) for it in cases}
    properties = {it.get("name", ""): [found.get("value", "") for found in it.iter("property")] for it in cases}
    return Ran(done.stdout + done.stderr, {name: text for name, text in failures.items() if text}, properties, done.returncode)


@unittest.skipUnless(importlib.util.find_spec("pytest"), "pytest is not installed")
class InPytest(unittest.TestCase):
    maxDiff = None

    def test_a_training_is_held_or_fails_with_the_finding(self) -> None:
        ran = run(TRAINING, HELD, options="-W error", GITHUB_ACTIONS="true")
        self.assertEqual(list(ran.failures), ["test_never_cleared", "test_raises", "test_trains_nothing"], ran.printed)
        failure = ran.failures["test_never_cleared"]
        self.assertIn("traintrue.NotHeld: loop/window: the training is broken", failure)
        self.assertIn("cause      the gradients of earlier updates are still in the buffers", failure)
        self.assertIn(">       with traintrue.held(", failure)
        for file in ("testing.py", "command.py", "recorder.py"):
            self.assertNotIn(file, failure)
        self.assertIn("KeyError: 'mine'", ran.failures["test_raises"])
        self.assertNotIn("traintrue.NotHeld", ran.failures["test_raises"])
        self.assertIn("no optimizer of torch.optim made a step in the block", ran.failures["test_trains_nothing"])
        self.assertEqual(ran.properties["test_clean"], [])
        rule, cause = ran.properties["test_never_cleared"]
        self.assertEqual(rule, "loop/window")
        self.assertIn(f"\n{ANNOTATION}{cause}\n", ran.printed)

    def test_memory_is_flat_or_fails_with_its_slope(self) -> None:
        ran = run(TRAINING, MEMORY)
        self.assertEqual(list(ran.failures), ["test_keeps_tensors", "test_is_too_short", "test_trains_nothing", "test_raises"], ran.printed)
        failure = ran.failures["test_keeps_tensors"]
        self.assertTrue(failure.startswith("max-slope: memory is broken\n"), failure)
        self.assertIn("the limit is 64 KiB/step", failure)
        self.assertNotIn("Traceback", failure)
        self.assertNotIn("pytest_plugin.py", failure)
        self.assertEqual(ran.properties["test_keeps_tensors"][0], "max-slope")
        self.assertIn("not judged: memory: tracked_bytes: a slope needs", ran.failures["test_is_too_short"])
        self.assertIn("no optimizer of torch.optim made a step while the test function ran", ran.failures["test_trains_nothing"])
        self.assertIn("KeyError: 'mine'", ran.failures["test_raises"])
        self.assertNotIn("::error", ran.printed)

    def test_a_wrong_marker_is_an_error_at_collection(self) -> None:
        for arguments, message in (
            ('max_slop="64KiB/step"', "expected traintrue_memory(max_slope, lanes=None)"),
            ('max_slope="64KB/step"', "max_slope: '64KB/step', expected an amount in B, KiB, MiB, GiB or TiB per step"),
            ('"1KiB/step", lanes=["rss"]', "lanes: ['rss'], expected a list with some of rss_bytes"),
        ):
            with self.subTest(arguments):
                ran = run(f"import pytest\n@pytest.mark.traintrue_memory({arguments})\ndef test_it(): raise KeyError('ran')\n")
                self.assertEqual(ran.status, 2, ran.printed)
                self.assertIn(message, ran.printed)
                self.assertNotIn("KeyError", ran.printed)

    def test_tests_that_ask_for_nothing_import_no_torch(self) -> None:
        ran = run("import sys\ndef test_it(): assert 'torch' not in sys.modules\n")
        self.assertEqual((ran.status, ran.failures), (0, {}), ran.printed)

    @unittest.skipUnless(importlib.util.find_spec("xdist"), "pytest-xdist is not installed")
    def test_workers_of_xdist_bring_the_findings_home(self) -> None:
        ran = run(TRAINING, HELD, options="-p xdist -n 2", GITHUB_ACTIONS="true")
        self.assertEqual(sorted(ran.failures), ["test_never_cleared", "test_raises", "test_trains_nothing"], ran.printed)
        self.assertEqual(ran.properties["test_never_cleared"][0], "loop/window")
        self.assertIn(f"\n{ANNOTATION}", ran.printed)


if __name__ == "__main__":
    unittest.main()
