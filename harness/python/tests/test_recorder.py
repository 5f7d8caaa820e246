"""The recorder over a fake loop, right and wrong."""

from __future__ import annotations

import unittest

from .bench import Bench
from .fakes import Loader, Scaler, Stream, Tensor


class ARightLoop(unittest.TestCase):
    def setUp(self) -> None:
        self.bench = Bench()
        with self.bench.record(epochs=2, accumulation=2):
            self.bench.train()

    def test_begins_with_what_is_known_and_ends_done(self) -> None:
        events = self.bench.events()
        self.assertEqual(events[0]["event"], "run")
        recorded = {"samples": 5, "batch": 2, "drop_last": False, "epochs": 2, "accumulation": 2}
        self.assertEqual({**events[0]["recorded"], **recorded}, events[0]["recorded"])
        self.assertNotIn("clip", events[0]["recorded"])
        self.assertEqual(events[-1], {"event": "end", "reason": "done"})

    def test_every_micro_batch_has_its_place_its_samples_and_its_loss(self) -> None:
        found = [(it["epoch"], it["index"], it["samples"]) for it in self.bench.events("micro_batch")]
        epoch = [[0, 1], [2, 3], [4]]
        self.assertEqual(found, [(at, index, ids) for at in (0, 1) for index, ids in enumerate(epoch)])
        first = self.bench.events("micro_batch")[0]
        self.assertEqual((first["rows"], first["width"]), (2, 2))
        self.assertEqual(first["losses"], [{"name": "loss", "sum": 1.0, "weight": 1.0}])

    def test_an_update_after_the_last_batch_is_within_its_epoch(self) -> None:
        names = [(it["event"], it.get("edge")) for it in self.bench.events() if it["event"] in ("update", "epoch")]
        epoch = [("epoch", "begin"), ("update", None), ("update", None), ("epoch", "end")]
        self.assertEqual(names, epoch + epoch)

    def test_an_update_has_the_micro_batches_of_its_gradients_and_their_norm(self) -> None:
        updates = self.bench.events("update")
        self.assertEqual([it["micro_batches"] for it in updates], [2, 1, 2, 1])
        self.assertAlmostEqual(updates[0]["grad_norm"], 2 * 3**0.5)
        self.assertEqual([it["lr"] for it in updates], [[0.1]] * 4)

    def test_everything_is_as_it_was_afterwards(self) -> None:
        model, optimizer, loader = self.bench.model, self.bench.optimizer, self.bench.loader
        self.assertEqual([model.pre, model.post, optimizer.pre, optimizer.post], [[]] * 4)
        self.assertEqual([it.before + it.after for it in model.parameters.values()], [[], []])
        self.assertEqual((type(loader), type(loader.batch_sampler).__module__), (Loader, "tests.fakes"))


class AWrongLoop(unittest.TestCase):
    def test_gradients_that_are_never_cleared_are_counted(self) -> None:
        bench = Bench()
        with bench.record(accumulation=2):
            bench.train(epochs=1, clears=False)
        self.assertEqual([it["micro_batches"] for it in bench.events("update")], [2, 3])

    def test_a_clip_is_seen_from_both_sides(self) -> None:
        bench = Bench()
        with bench.record():
            for batch in bench.loader:
                bench.model(batch)
                bench.model.backward()
                for parameter in bench.model.parameters.values():
                    parameter.grad = Tensor([value / 2 for value in parameter.grad.values])
                bench.optimizer.step()
                bench.optimizer.zero_grad()
        first = bench.events("update")[0]
        self.assertAlmostEqual(first["grad_norm"], 2 * first["clipped_norm"])

    def test_an_optimizer_group_without_parameters_has_no_rate_to_show(self) -> None:
        bench = Bench()
        bench.optimizer.param_groups.append({"params": [], "lr": 5.0})
        with bench.record():
            bench.train(epochs=1)
        self.assertEqual([it["lr"] for it in bench.events("update")], [[0.1], [0.1]])

    def test_a_parameter_that_no_optimizer_holds_is_reported(self) -> None:
        bench = Bench(without="bias")
        with bench.record():
            bench.train()
        bias = bench.events("state")[-1]["tensors"][1]
        self.assertEqual((bias["name"], bias["trainable"], bias["optimized"]), ("bias", True, False))

    def test_a_frozen_parameter_in_a_group_is_not_held_by_it(self) -> None:
        bench = Bench(frozen=True)
        with bench.record():
            bench.train()
        bias = bench.events("state")[-1]["tensors"][1]
        self.assertEqual((bias["group"], bias["trainable"], bias["optimized"]), ("frozen", False, False))

    def test_a_nan_reaches_the_trace(self) -> None:
        bench = Bench()
        with bench.record():
            for batch in bench.loader:
                bench.model(batch, loss=float("nan"))
                bench.model.backward()
                bench.optimizer.step()
        self.assertEqual(bench.events("micro_batch")[0]["losses"][0]["sum"], "nan")

    def test_a_step_that_a_scaler_skips_is_an_update_that_was_not_applied(self) -> None:
        bench = Bench()
        scaler = Scaler(overflows=(1,))
        with bench.record(accumulation=1, scaler=scaler):
            for batch in bench.loader:
                bench.model(batch)
                bench.model.backward()
                scaler.step(bench.optimizer)
                bench.optimizer.zero_grad()
        self.assertEqual([it["applied"] for it in bench.events("update")], [True, False, True])
        self.assertEqual([it["step"] for it in bench.events("update")], [1, 2, 3])
        self.assertIs(type(scaler), Scaler)

    def test_a_scale_of_0_after_many_overflows_does_not_stop_the_loop(self) -> None:
        bench = Bench()
        scaler = Scaler(overflows=())
        scaler.scale = 0.0
        with bench.record(scaler=scaler):
            for batch in bench.loader:
                bench.model(batch)
                bench.model.backward()
                scaler.step(bench.optimizer)
        self.assertEqual(bench.events("update")[0]["grad_norm"], "nan")

    def test_an_error_is_the_end_and_reaches_the_caller(self) -> None:
        bench = Bench()
        with self.assertRaises(RuntimeError), bench.record(epochs=2):
            bench.model(next(iter(bench.loader)))
            raise RuntimeError("out of luck")
        self.assertEqual(bench.events()[-1]["message"], "RuntimeError: out of luck")


class Beside(unittest.TestCase):
    def test_an_evaluation_is_no_micro_batch_and_shows_what_it_drew(self) -> None:
        bench = Bench()
        with bench.record():
            bench.train(epochs=1)
            bench.model.training, bench.tensors.enabled = False, False
            bench.model("a batch of another loader", loss=3.0)
            bench.model.training, bench.tensors.enabled = True, True
        (found,) = bench.events("evaluation")
        self.assertEqual(found["digest_before"], found["digest_after"])
        self.assertEqual((found["rng_before"], found["losses"][0]["sum"]), (found["rng_after"], 3.0))
        self.assertEqual(len(bench.events("micro_batch")), 3)

    def test_a_stream_without_ids_is_told_by_its_content(self) -> None:
        stream = Stream([Tensor([[1, 2], [3, 4]]), Tensor([[1, 2], [5, 6]])])
        bench = Bench(loader=stream)
        with bench.record():
            bench.train(epochs=1, accumulation=1)
        (a, b), (c, d) = (it["samples"] for it in bench.events("micro_batch"))
        self.assertEqual(a, c)
        self.assertEqual(len({a, b, d}), 3)
        self.assertNotIn("samples", bench.events()[0]["recorded"])
        self.assertEqual(bench.events()[-1]["reason"], "stopped")

    def test_a_list_cannot_be_watched_and_says_so(self) -> None:
        with self.assertRaisesRegex(TypeError, "a list cannot be watched"):
            Bench(loader=[1, 2]).record()

    def test_a_number_that_is_not_finite_is_refused_by_its_name(self) -> None:
        bench = Bench()
        with self.assertRaisesRegex(ValueError, "clip: inf, expected a finite number; leave clip out"):
            bench.record(clip=float("inf"))
        self.assertIs(type(bench.loader), Loader)

    def test_an_unknown_convention_is_refused_with_those_that_are_known(self) -> None:
        with self.assertRaisesRegex(ValueError, "unknown tial; expected some of tail, normaliser"):
            Bench().record(contract={"tial": "drop"})

    def test_checkpoints_are_what_the_user_says(self) -> None:
        bench = Bench()
        with bench.record() as run:
            bench.train(epochs=1)
            run.checkpoint("saved", "model.pt")
        (saved,) = bench.events("checkpoint")
        self.assertEqual((saved["step"], saved["epoch"], saved["micro_batches"]), (2, 1, 0))


if __name__ == "__main__":
    unittest.main()
