"""Training loops of two processes, recorded under torchrun: right, every rank is held; with a bug, the first finding names its cause.

`TRAINTRUE` in the environment names the command; by default it is on the path.
"""

from __future__ import annotations

import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List

from .test_scripts import Bug, recorded_command

RANKS = Path(__file__).resolve().parent / "ranks"
SEEDS = 2

STEP = "            optimizer.step()\n"
CLAMPED = "    judges.step()\n    rank == 1 and [it.data.clamp_(-0.2, 0.2) for it in discriminator.parameters()]\n"

# By script: the text that is replaced, the text in its place, the invariant of the first finding of all ranks, and a part of its cause.
BUGS: Dict[str, List[Bug]] = {
    "loop_of_ranks": [
        ("cross_entropy(wrapped(", "cross_entropy(model(", "ranks/mean-gradient", "rank 0 applies its own gradients alone"),
        ("nullcontext() if last", "nullcontext() if not last", "ranks/mean-gradient", "the last micro-batch of the window is averaged nowhere"),
        ("rank)\n\nrows", "rank)\nnn.init.normal_(model[3].weight)\n\nrows", "ranks/one-model", "begin with different values in module.3.weight"),
        ("DistributedSampler(rows, shuffle=True, seed=seed)", "DistributedSampler(rows, num_replicas=1, rank=0, seed=seed)", "ranks/each-sample-once", "every rank trains the same samples"),
        ("    sampler.set_epoch(epoch)\n", "", "loop/samples", "DistributedSampler without set_epoch()"),
        ("            scheduler.step()", "            rank == 0 and scheduler.step()", "ranks/in-step", "the ranks train at different learning rates"),
        (STEP, f"            rank == 1 and model[3].bias.grad.zero_()\n{STEP}", "ranks/one-model", "applied other gradients"),
        ("AdamW(model.parameters()", "AdamW([*model.parameters()][rank:]", "ranks/one-model", "did not change on rank 1"),
        ("(loss / size).backward()", "(loss / size if rank else loss).backward()", "loop/loss-scale", "summed, not averaged"),
    ],
    "accelerated_ranks": [
        ("mse_loss(model(inputs)", "mse_loss(accelerator.unwrap_model(model)(inputs)", "ranks/mean-gradient", "applies its own gradients alone"),
        ("optimizer, loader = accelerator.prepare(model, optimizer, loader)", "optimizer = accelerator.prepare(model, optimizer)", "ranks/each-sample-once", "nothing shares them out"),
    ],
    "adversarial_ranks": [
        ("    judges.step()\n", CLAMPED, "ranks/one-model", "or the other rank changed it by itself"),
    ],
}

# What makes the ranks no copies of one model, on purpose: a script, the text that is replaced, the text in its place, and a part of
# the note.
APART = [
    ("loop_of_ranks", "DistributedDataParallel(model)\n", "DistributedDataParallel(model[:3])\n", "in no DistributedDataParallel"),
    ("loop_of_ranks", "(model)\ntorch", "(model)\nfrom torch.distributed.algorithms.ddp_comm_hooks.default_hooks import fp16_compress_hook\nwrapped.register_comm_hook(None, fp16_compress_hook)\ntorch", "a communication hook"),
]


def recorded(script: Path, *arguments: str) -> List[Dict[str, Any]]:
    """The outcomes of a script that two processes run, by rank."""
    return recorded_command([sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(script), *arguments])


def changed(name: str, old: str, new: str) -> Path:
    text = (RANKS / f"{name}.py").read_text(encoding="utf-8")
    if old not in text:
        raise AssertionError(f"{name}: no {old!r}")
    path = Path(tempfile.mkdtemp()) / f"{name}.py"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


class ALoopOfTwoRanks(unittest.TestCase):
    maxDiff = None

    def test_that_is_right_is_held_on_both(self) -> None:
        for name in BUGS:
            for seed in range(SEEDS):
                with self.subTest(name, seed=seed):
                    outcomes = recorded(RANKS / f"{name}.py", str(seed))
                    self.assertEqual([(it["verdict"], it["findings"]) for it in outcomes], [("held", [])] * 2)
                    self.assertIn("ranks/mean-gradient", outcomes[0]["compared"])

    def test_with_a_planted_bug_is_broken_by_its_cause(self) -> None:
        for name, bugs in BUGS.items():
            for number, (old, new, invariant, cause) in enumerate(bugs):
                with self.subTest(name, bug=number, new=new):
                    outcomes = recorded(changed(name, old, new))
                    findings = [finding for it in outcomes for finding in it["findings"]]
                    first = findings[0] if findings else {"invariant": "held", "cause": ""}
                    self.assertEqual(first["invariant"], invariant, first)
                    self.assertIn(cause, first["cause"])

    def test_whose_ranks_are_no_copies_is_not_compared(self) -> None:
        for name, old, new, why in APART:
            with self.subTest(why):
                outcomes = recorded(changed(name, old, new))
                notes = [note for it in outcomes for note in it.get("notes", [])]
                self.assertTrue(any("the ranks are not compared" in note and why in note for note in notes), notes)
                self.assertFalse(any(finding["invariant"].startswith("ranks/") for it in outcomes for finding in it["findings"]))


if __name__ == "__main__":
    unittest.main()
