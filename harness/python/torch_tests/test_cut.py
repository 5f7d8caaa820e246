"""A script that saves and resumes: right, it is held at every cut; with a bug in its resume, it is broken by its component."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict

from .test_scripts import COMMAND, SCRIPTS

LOADS_MODEL = '    model.load_state_dict(saved["model"])\n'
# By name: the text that is replaced, the text in its place, and the component that the first finding names.
BUGS = {
    "nothing loaded": (LOADS_MODEL, "", "checkpoint"),
    "no moments": ('    optimizer.load_state_dict(saved["optimizer"])\n', "", "moments"),
    "no schedule": ('    scheduler.load_state_dict(saved["scheduler"])\n', "", "schedule"),
    "no random state": ('    torch.set_rng_state(saved["random"])\n', "", "rng"),
    "epoch begins again": ("done, start = saved", 'saved["place"] = (saved["place"][0], 0)\n    done, start = saved', "cursor"),
    "skipped twice": ("epoch, first * BATCH", "epoch, 2 * first * BATCH", "cursor"),
    "another order": ("100 + self.epoch", "(200 if arguments.resume else 100) + self.epoch", "order"),
    "no buffers": (
        LOADS_MODEL,
        '    kept = {name: it for name, it in saved["model"].items() if "running" not in name}\n    model.load_state_dict(kept, strict=False)\n',
        "checkpoint-sections",
    ),
    "no head": (
        LOADS_MODEL,
        '    kept = {name: it for name, it in saved["model"].items() if "head" not in name}\n    model.load_state_dict(kept, strict=False)\n',
        "checkpoint-sections",
    ),
    "evaluation mode": ("model.train()\n", "model.train(not arguments.resume)\n", "evaluation"),
    "half precision": (
        '"model": model.state_dict()',
        '"model": {name: it.half() if it.is_floating_point() else it for name, it in model.state_dict().items()}',
        "checkpoint",
    ),
    "another decay": ("    done, start", '    optimizer.param_groups[0]["weight_decay"] = 0.5\n    done, start', "optimizer"),
}


def cut(script: Path, *options: str) -> Dict[str, Any]:
    """The outcome of `traintrue cut`."""
    python = [sys.executable, str(script), "--out", "{out}"]
    words = [COMMAND, "cut", *options, "--format", "json", "--resume", shlex.join([*python, "--resume"]), "--", *python]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, capture_output=True, text=True, check=False, env=environment)
    if not done.stdout:
        raise AssertionError(f"{words}: no report\n{done.stderr}")
    return json.loads(done.stdout)["outcomes"][0]


class AScriptThatResumes(unittest.TestCase):
    def test_rightly_is_held_at_every_kind_of_place(self) -> None:
        for how in ("exit", "SIGKILL"):
            with self.subTest(how):
                outcome = cut(SCRIPTS / "resumable.py", "--how", how)
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))
                self.assertEqual(outcome["counted"]["cuts"], 4)

    def test_wrongly_is_broken_by_what_did_not_come_back(self) -> None:
        text = (SCRIPTS / "resumable.py").read_text(encoding="utf-8")
        for name, (old, new, component) in BUGS.items():
            with self.subTest(name):
                self.assertIn(old, text)
                path = Path(tempfile.mkdtemp()) / "resumable.py"
                path.write_text(text.replace(old, new), encoding="utf-8")
                findings = cut(path, "--at", "9")["findings"]
                self.assertEqual([it["component"] for it in findings], [component])


if __name__ == "__main__":
    unittest.main()
