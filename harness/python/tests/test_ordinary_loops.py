"""Ordinary loops do more than forward, backward and step: none of it may be mistaken for something else."""

from __future__ import annotations

import copy
import pickle
import unittest
from typing import Any

from .bench import Bench
from .fakes import Loader, Tensor


class Looking:
    """A forward without gradients, in evaluation mode or in training mode."""

    def __init__(self, bench: Bench, training: bool) -> None:
        self.model, self.tensors, self.training = bench.model, bench.tensors, training

    def __call__(self) -> None:
        self.model.training, self.tensors.enabled = self.training, False
        self.model("another batch", loss=3.0)
        self.model.training, self.tensors.enabled = True, True


def each_batch(bench: Bench, *todo: Any) -> None:
    """Trains an epoch by calling these for each batch, and updates."""
    for _ in bench.loader:
        for what in todo:
            what()
        bench.optimizer.step()
        bench.optimizer.zero_grad()


def gone(_tensor: Any) -> str:
    """A checksum that cannot be taken."""
    raise OSError("the device is gone")


class AMicroBatch(unittest.TestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        self.bench.model.dropout = self.bench.tensors
        self.forward = lambda: self.bench.model("batch")
        self.backward = self.bench.model.backward

    def counts(self) -> list:
        return [it["micro_batches"] for it in self.bench.events("update")]

    def test_is_not_lost_where_something_is_evaluated_before_it_is_trained_on(self) -> None:
        with self.bench.record():
            each_batch(self.bench, Looking(self.bench, training=False), self.forward, self.backward)
        self.assertEqual([it["samples"] for it in self.bench.events("micro_batch")], [[0, 1], [2, 3], [4]])
        self.assertEqual((self.counts(), len(self.bench.events("evaluation"))), ([1, 1, 1], 3))

    def test_may_be_looked_at_first_by_the_model_in_training_mode(self) -> None:
        with self.bench.record():
            each_batch(self.bench, Looking(self.bench, training=True), self.forward, self.backward)
        self.assertEqual([it["losses"][0]["sum"] for it in self.bench.events("micro_batch")], [1.0, 1.0, 1.0])
        self.assertEqual((self.counts(), self.bench.events("evaluation")), ([1, 1, 1], []))

    def test_is_one_however_many_backward_passes_it_takes(self) -> None:
        with self.bench.record():
            each_batch(self.bench, self.forward, self.backward, self.backward)
        self.assertEqual(self.counts(), [1, 1, 1])

    def test_is_none_of_the_gradients_that_nobody_adds(self) -> None:
        def asks() -> None:
            for parameter in self.bench.model.parameters.values():
                for hook in parameter.before:
                    hook(Tensor([1.0]))
            self.bench.optimizer.zero_grad()

        with self.bench.record():
            for _ in self.bench.loader:
                self.forward()
                asks()
                self.backward()
                self.bench.optimizer.step()
        self.assertEqual(self.counts(), [1, 1, 1])

    def test_counts_where_some_gradients_are_zero(self) -> None:
        bias = self.bench.model.parameters["bias"]
        bias.backward, add = lambda _gradient: add([0.0]), bias.backward
        with self.bench.record(accumulation=2):
            self.bench.train(epochs=1)
        self.assertEqual(self.counts(), [2, 1])

    def test_is_seen_by_its_gradients_where_no_forward_is(self) -> None:
        with self.bench.record():
            each_batch(self.bench, self.backward)
        self.assertEqual((self.counts(), len(self.bench.events("micro_batch"))), ([1, 1, 1], 3))

    def test_may_be_made_in_a_closure_of_the_step(self) -> None:
        def closure() -> None:
            self.bench.optimizer.zero_grad()
            self.forward()
            self.backward()

        with self.bench.record():
            for _ in self.bench.loader:
                self.bench.optimizer.step(closure)
        self.assertEqual(self.counts(), [1, 1, 1])
        self.assertAlmostEqual(self.bench.events("update")[0]["grad_norm"], 3**0.5)


class AnEpoch(unittest.TestCase):
    def test_is_one_that_trains(self) -> None:
        bench = Bench()
        with bench.record(epochs=2):
            next(iter(bench.loader))
            for _ in range(2):
                bench.train(epochs=1)
                for _ in bench.loader:
                    Looking(bench, training=False)()
        edges = [(it["epoch"], it["edge"]) for it in bench.events("epoch")]
        self.assertEqual(edges, [(0, "begin"), (0, "end"), (1, "begin"), (1, "end")])
        self.assertEqual([it["index"] for it in bench.events("micro_batch")], [0, 1, 2] * 2)


class AnEvaluation(unittest.TestCase):
    def unchanged(self, training: bool, between: int) -> bool:
        bench = Bench()
        bench.model.dropout = bench.tensors
        with bench.record():
            bench.train(epochs=1)
            for _ in range(2):
                Looking(bench, training)()
                bench.tensors.stream += between
        (found,) = bench.events("evaluation")
        return bool(found["rng_before"] == found["rng_after"])

    def test_is_not_to_blame_for_what_is_drawn_between_its_forwards(self) -> None:
        for training, between, unchanged in ((False, 0, True), (False, 1, True), (True, 0, False), (True, 1, False)):
            with self.subTest(training=training, between=between):
                self.assertEqual(self.unchanged(training, between), unchanged)


class ACopy(unittest.TestCase):
    def test_of_a_model_has_hooks_that_do_nothing(self) -> None:
        for how in (copy.deepcopy, lambda model: pickle.loads(pickle.dumps([model.pre, model.post]))):
            bench = Bench()
            with bench.record():
                made = how(bench.model)
                pre, post = made if isinstance(made, list) else (made.pre, made.post)
                self.assertIsNone(pre[0](made, ("batch",)))
                self.assertIsNone(post[0](made, ("batch",), {"loss": Tensor([1.0])}))
                bench.train(epochs=1)
            self.assertEqual((len(bench.events("micro_batch")), bench.events("evaluation")), (3, []))


class ANorm(unittest.TestCase):
    def test_is_left_out_once_where_a_parameter_was_frozen_until_now(self) -> None:
        bench = Bench(frozen=True)
        with bench.record(clip=1.0):
            bench.train(epochs=1, accumulation=1)
            bench.model.parameters["bias"].requires_grad = True
            bench.train(epochs=1, accumulation=1)
        squares = [round(it.get("grad_norm", 0.0) ** 2, 9) for it in bench.events("update")]
        self.assertEqual(squares, [2.0, 2.0, 2.0, 0.0, 3.0, 3.0])

    def test_and_an_overflow_are_as_a_fused_optimizer_is_told(self) -> None:
        bench = Bench()
        with bench.record():
            for overflow in (0.0, 1.0):
                bench.model(next(iter(bench.loader)))
                bench.model.backward()
                bench.optimizer.grad_scale, bench.optimizer.found_inf = 4.0, overflow
                bench.optimizer.step()
                bench.optimizer.zero_grad()
        updates = bench.events("update")
        self.assertEqual([it["applied"] for it in updates], [True, False])
        self.assertAlmostEqual(updates[0]["clipped_norm"], 3**0.5 / 4)


class AFailure(unittest.TestCase):
    def test_to_begin_leaves_everything_as_it_was(self) -> None:
        bench = Bench()
        bench.path = bench.path / "nowhere"
        with self.assertRaises(OSError):
            bench.record()
        self.assertEqual((type(bench.loader), bench.model.pre, bench.optimizer.post), (Loader, [], []))
        bench.train(epochs=1)

    def test_to_end_does_not_hide_the_error_of_the_loop(self) -> None:
        bench = Bench()
        with self.assertRaisesRegex(RuntimeError, "the loop's own"):
            with bench.record():
                bench.train(epochs=1)
                Looking(bench, training=False)()
                bench.tensors.checksum = gone
                raise RuntimeError("the loop's own")
        self.assertEqual(bench.events()[-1]["message"], "RuntimeError: the loop's own")

    def test_of_the_recorder_itself_is_told_where_the_loop_was_right(self) -> None:
        bench = Bench()
        with self.assertRaisesRegex(OSError, "the device is gone"):
            with bench.record():
                bench.train(epochs=1)
                bench.tensors.checksum = gone
        self.assertEqual(bench.events()[-1]["reason"], "error")

    def test_to_say_one_loss_names_the_shape(self) -> None:
        bench = Bench()
        with bench.record() as run, self.assertRaisesRegex(ValueError, r"shape \(2,\), expected one number"):
            run.loss(Tensor([1.0, 2.0]))


if __name__ == "__main__":
    unittest.main()
