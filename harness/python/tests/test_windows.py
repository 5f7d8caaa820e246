"""The accumulation window of an optimizer, over stand-ins for tensors."""

from __future__ import annotations

import unittest
from typing import Any, Dict, List, Optional

from traintrue.observe.windows import MicroBatch, Window


class Gradient:
    def __init__(self, value: float) -> None:
        self.value, self._version = value, 0

    def numel(self) -> int:
        return 1


class Parameter:
    def __init__(self) -> None:
        self.grad: Optional[Gradient] = None

    def receive(self, value: float = 1.0) -> None:
        """What a backward pass does."""
        if self.grad is None:
            self.grad = Gradient(value)
        else:
            self.grad.value += value
            self.grad._version += 1


class Optimizer:
    def __init__(self, *parameters: Parameter) -> None:
        self.param_groups, self.state = [{"params": list(parameters)}], {}


class Tensors:
    def is_clear(self, gradient: Optional[Gradient]) -> bool:
        return gradient is None or gradient.value == 0.0

    def number(self, value: float) -> float:
        return value


class Loop:
    """One optimizer with one parameter, driven by hand."""

    def __init__(self) -> None:
        self.parameter = Parameter()
        self.optimizer = Optimizer(self.parameter)
        self.window = Window(0, self.optimizer, Tensors())

    def backward(self, micro_batch: Optional[MicroBatch] = None) -> MicroBatch:
        micro_batch = micro_batch or MicroBatch({}, [])
        self.window.settle()
        marks = self.window.marks()
        self.parameter.receive()
        if self.window.reached(marks):
            self.window.add(micro_batch)
        return micro_batch

    def step(self) -> Dict[str, Any]:
        self.window.settle()
        held = len(self.window.members)
        since = self.window.take(epoch_over=False, closure=False, schedules=[], declared=None, before=None, averaged=None)
        return {"held": held, **since}

    def clear(self, to: Optional[float] = None) -> None:
        self.parameter.grad = None if to is None else Gradient(to)


def held_and_since(how: str) -> List[Any]:
    """Three updates of two micro-batches each."""
    loop = Loop()
    told = []
    for _ in range(3):
        for _ in range(2):
            loop.backward()
            if how == "cleared-a-micro-batch":
                loop.clear()
                loop.backward()
        update = loop.step()
        told.append((update["held"], update["micro_batches"], update["unused"]))
        if how != "never-cleared":
            loop.clear(0.0 if how == "set-to-zero" else None)
    return told


class AWindow(unittest.TestCase):
    def test_holds_what_came_since_the_gradients_were_cleared(self) -> None:
        expected = {
            "right": [(2, 2, 0)] * 3,
            "set-to-zero": [(2, 2, 0)] * 3,
            "never-cleared": [(2, 2, 0), (4, 2, 0), (6, 2, 0)],
            "cleared-a-micro-batch": [(1, 4, 3)] * 3,
        }
        for how, told in expected.items():
            with self.subTest(how):
                self.assertEqual(held_and_since(how), told)

    def test_does_not_miss_gradients_that_another_optimizer_has_used(self) -> None:
        discriminator, generator = Loop(), Loop()
        shared = generator.backward()
        discriminator.backward(shared)
        generator.step()
        # The discriminator clears what the generator's backward pass left in it.
        discriminator.clear()
        discriminator.backward()
        update = discriminator.step()
        self.assertEqual((update["held"], update["micro_batches"], update["unused"]), (1, 2, 0))

    def test_does_not_miss_a_window_that_was_not_finite(self) -> None:
        loop = Loop()
        loop.backward().finite = False
        loop.clear()
        loop.backward()
        self.assertEqual(loop.step()["unused"], 0)

    def test_knows_what_a_clip_call_saw(self) -> None:
        loop = Loop()
        loop.backward()
        loop.window.clipped(1.0, 3.0, [loop.parameter], by_value=False, scaled=False, norm_type=2.0)
        loop.backward()
        loop.window.clipped(1.0, 5.0, [loop.parameter], by_value=False, scaled=False, norm_type=2.0)
        loop.window.clipped(1.0, 5.0, [Parameter()], by_value=False, scaled=False, norm_type=2.0)
        self.assertEqual([(it["held"], it["norm"], it["used"]) for it in loop.step()["clips"]], [(1, 3.0, False), (2, 5.0, False)])
        loop.window.clipped(1.0, 5.0, [loop.parameter], by_value=False, scaled=False, norm_type=2.0)
        self.assertEqual([it["used"] for it in loop.step()["clips"]], [True])

    def test_tells_what_an_epoch_left_in_it(self) -> None:
        loop = Loop()
        loop.backward()
        loop.window.epoch_begins()
        loop.backward()
        update = loop.step()
        self.assertEqual((update["micro_batches"], update["began"], update["epoch_ended"]), (2, 1, True))


if __name__ == "__main__":
    unittest.main()
