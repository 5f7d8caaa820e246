"""Activation checkpointing: whether a segment does the same when the backward pass repeats it."""

from __future__ import annotations

import random
import unittest
import warnings
from functools import partial
from typing import Any, Callable, Dict, Optional, Tuple

import torch
from torch import nn
from torch.utils import checkpoint as module
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts

from traintrue.observe.patches import Guard, Patches
from traintrue.observe.recomputed import MOST, Recomputed
from traintrue.tensors import Torch

PLAIN = nn.Sequential(nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))
DROPS = nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.5), nn.Linear(8, 8))
NORMS = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8))
# Segments that were repeated, and those that did something else.
Told = Optional[Tuple[int, int]]
Checkpoint = Callable[..., Any]


def told(script: Callable[[Checkpoint], Any], reentrant: bool = True) -> Told:
    torch.manual_seed(0)
    random.seed(0)
    guard, patches = Guard(), Patches()
    recomputed = Recomputed(Torch(), guard)
    recomputed.watch(patches, module)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            script(partial(module.checkpoint, use_reentrant=reentrant))
    finally:
        patches.release()
    if guard.trouble():
        raise AssertionError(guard.trouble())
    found = recomputed.told()
    return found and (found["repeated"], found["differ"])


def rows() -> torch.Tensor:
    return torch.randn(4, 8, requires_grad=True)


def segment(function: Callable[..., Any], **how: Any) -> Callable[[Checkpoint], Any]:
    """One segment, and random numbers drawn between it and the backward pass."""

    def script(checkpoint: Checkpoint) -> None:
        output = checkpoint(function, rows(), **how)
        torch.randn(3)
        (output[1] if isinstance(output, tuple) else output).float().sum().backward()

    return script


def in_autocast(inputs: torch.Tensor) -> torch.Tensor:
    with torch.autocast("cpu", torch.bfloat16):
        return DROPS(inputs)


def with_a_fork(inputs: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return DROPS(inputs)


def around_autocast(checkpoint: Checkpoint) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        output = checkpoint(DROPS, rows())
    output.float().sum().backward()


def nested(checkpoint: Checkpoint) -> None:
    def outer(inputs: torch.Tensor) -> torch.Tensor:
        return checkpoint(DROPS, checkpoint(DROPS, inputs))

    checkpoint(outer, rows()).sum().backward()


def three(checkpoint: Checkpoint) -> None:
    checkpoint(DROPS, checkpoint(PLAIN, checkpoint(DROPS, rows()))).sum().backward()


def twice(checkpoint: Checkpoint) -> None:
    """The second backward pass is over the same graph, of a segment that has changed since: nothing is told of it."""
    factors = iter([1.0, 1.0, 5.0])
    output = checkpoint(lambda inputs: DROPS(inputs) * next(factors), rows()).sum()
    output.backward(retain_graph=True)
    output.backward()


def in_place(checkpoint: Checkpoint) -> None:
    checkpoint(PLAIN, rows()).mul_(2).sum().backward()


def evaluated(checkpoint: Checkpoint) -> None:
    with torch.no_grad():
        checkpoint(DROPS, rows())


def failed(checkpoint: Checkpoint) -> None:
    attempts = iter([True, False, False])

    def fails_at_first(inputs: torch.Tensor) -> torch.Tensor:
        if next(attempts):
            raise MemoryError
        return DROPS(inputs)

    try:
        checkpoint(fails_at_first, rows())
    except MemoryError:
        checkpoint(fails_at_first, rows()).sum().backward()


UNPRESERVED = {"preserve_rng_state": False}
# What is told of right scripts, in both kinds of checkpointing.
SAME: Dict[str, Tuple[Callable[[Checkpoint], Any], Told]] = {
    "dropout": (segment(DROPS), (1, 0)),
    "nothing random, unpreserved": (segment(PLAIN, **UNPRESERVED), (1, 0)),
    "dropout of 0, unpreserved": (segment(nn.Sequential(nn.Linear(8, 8), nn.Dropout(0.0)), **UNPRESERVED), (1, 0)),
    "random in a fork, unpreserved": (segment(with_a_fork, **UNPRESERVED), (1, 0)),
    "batch norm": (segment(NORMS), (1, 0)),
    "several outputs": (segment(lambda inputs: (torch.ones(2), DROPS(inputs))), (1, 0)),
    "first output no tensor": (segment(lambda inputs: (3, DROPS(inputs))), (1, 0)),
    "autocast inside": (segment(in_autocast), (1, 0)),
    "autocast outside": (around_autocast, (1, 0)),
    "not a number": (segment(lambda inputs: PLAIN(inputs) * float("nan")), (1, 0)),
    "nested": (nested, (3, 0)),
    "three segments": (three, (3, 0)),
    "two backward passes": (twice, (1, 0)),
    "output changed in place": (in_place, (1, 0)),
    "without gradients": (evaluated, None),
    "failed at first": (failed, (1, 0)),
}


class ASegment(unittest.TestCase):
    def test_that_does_the_same_again_does_not_differ(self) -> None:
        for name, (script, expected) in SAME.items():
            for reentrant in (True, False):
                with self.subTest(name, reentrant=reentrant):
                    self.assertEqual(told(script, reentrant), expected)

    def test_that_draws_other_numbers_again_differs(self) -> None:
        for reentrant in (True, False):
            with self.subTest(reentrant=reentrant):
                self.assertEqual(told(segment(DROPS, **UNPRESERVED), reentrant), (1, 1))

    def test_that_gives_something_else_again_differs_unless_torch_ends_it_early(self) -> None:
        own, calls = torch.Generator().manual_seed(1), iter(range(1, 100))
        others: Dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "a generator of its own": lambda inputs: PLAIN(inputs) * torch.rand(4, 8, generator=own),
            "the generator of Python": lambda inputs: PLAIN(inputs) * random.random(),
            "a count of its calls": lambda inputs: PLAIN(inputs) * next(calls),
        }
        for name, function in others.items():
            with self.subTest(name):
                self.assertEqual(told(segment(function), reentrant=True), (1, 1))
                self.assertEqual(told(segment(function), reentrant=False), (1, 0))
                with module.set_checkpoint_early_stop(False):
                    self.assertEqual(told(segment(function), reentrant=False), (1, 1))

    def test_may_keep_some_of_its_operations(self) -> None:
        kept = [torch.ops.aten.addmm.default]
        policies: Dict[str, Any] = {"list": kept, "all": lambda *_, **__: CheckpointPolicy.MUST_SAVE}
        for name, policy in policies.items():
            how = {"context_fn": partial(create_selective_checkpoint_contexts, policy)}
            with self.subTest(name):
                self.assertEqual(told(segment(PLAIN, **how), reentrant=False), (1, 0))

    def test_of_a_model_that_is_checkpointed_as_a_whole_is_seen(self) -> None:
        def script(_checkpoint: Checkpoint) -> None:
            module.checkpoint_sequential(nn.Sequential(PLAIN, DROPS, NORMS), 3, rows(), use_reentrant=False, **UNPRESERVED).sum().backward()

        # The last segment is not checkpointed, and the first one draws nothing.
        self.assertEqual(told(script), (2, 1))

    def test_is_looked_at_up_to_a_number_of_them(self) -> None:
        def script(checkpoint: Checkpoint) -> None:
            for _ in range(MOST + 3):
                checkpoint(torch.sin, rows()).sum().backward()

        self.assertEqual(told(script), (MOST, 0))

    def test_gives_the_gradients_of_an_unrecorded_one(self) -> None:
        for reentrant in (True, False):
            gradients = []

            def script(checkpoint: Checkpoint) -> None:
                torch.manual_seed(1)
                inputs = rows()
                checkpoint(lambda it, factor: DROPS(it) * factor, inputs, 2.0).sum().backward()
                gradients.append(inputs.grad)

            script(partial(module.checkpoint, use_reentrant=reentrant))
            told(script, reentrant)
            with self.subTest(reentrant=reentrant):
                self.assertTrue(torch.equal(*gradients))


if __name__ == "__main__":
    unittest.main()
