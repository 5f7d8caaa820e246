"""The adapters' trace: it measures what the recorder measures, with the same classes."""

from __future__ import annotations

import io
import json
import unittest
from typing import Any, Dict, List

import torch
from torch import nn

from traintrue.adapters.plain_loop import Loop
from traintrue.adapters.plan_run import PlanRun
from traintrue.adapters.run_trace import TENSORS, RunTrace
from traintrue.adapters.table import TABLE
from traintrue.trace import Writer

PLAN: Dict[str, Any] = {
    "scenario": "none",
    "run": "a",
    "seed": 1,
    "model": {"size": "tiny"},
    "sample_memory": ["update"],
    "probes": [{"name": "one", "samples": [0, 1], "at": "both", "gradients": True}],
    "evaluate_every": 1,
    "train": {
        "accumulation": 1,
        "heads": ["projection"],
        "clip": 1.0,
        "optimizer": {"lr": 0.01, "betas": [0.9, 0.999], "eps": 1e-8, "decay": 0.0},
        "schedule": {"name": "constant", "warmup": 0},
    },
    "data": {
        "samples": [[1, 5, 6, 2], [1, 7, 2], [1, 8, 9, 2], [1, 5, 2]],
        "evaluation": [[1, 6, 2], [1, 9, 2]],
        "tokens": {"vocabulary": 16, "pad": 3, "bos": 1, "eos": 2},
        "max_length": 8,
        "batch": 2,
        "epochs": 1,
        "shuffle": False,
        "drop_last": False,
        "padding": {"policy": "longest", "side": "right", "multiple_of": 1},
    },
}
BATCH = {
    "ids": torch.tensor([0]),
    "input_ids": torch.tensor([[1, 2, 3]]),
    "attention_mask": torch.tensor([[1, 1, 0]]),
    "labels": torch.tensor([[-100, 2, -100]]),
}


class Run:
    """A run of two layers that writes to memory."""

    def __init__(self, **optimizer: Any) -> None:
        self.lines = io.StringIO()
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=0.1, **optimizer)
        self.trace = RunTrace(PLAN, Writer(self.lines), TABLE["plain"].describe(), {})

    def attach(self) -> "Run":
        self.trace.attach(self.model, self.optimizer, lambda _name: "base")
        return self

    def backward(self, scale: float = 1.0) -> None:
        (self.model(torch.ones(1, 4)).sum() * scale).backward()
        self.trace.micro_batch(0, self.trace.index, BATCH, [])

    def update(self) -> None:
        self.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()

    def events(self, name: str) -> List[Dict[str, Any]]:
        events = map(json.loads, self.lines.getvalue().splitlines())
        return [event for event in events if event["event"] == name]


class AnUpdate(unittest.TestCase):
    def test_that_a_fused_optimizer_skips_is_not_applied(self) -> None:
        run = Run(fused=True).attach()
        scaler = torch.amp.GradScaler("cpu", init_scale=4.0)
        for scale in (1.0, float("inf")):
            run.backward(scaler.get_scale() * scale)
            scaler.scale(torch.ones(1))  # the scaler makes its state when it scales for the first time
            scaler.step(run.optimizer)
            scaler.update()
            run.optimizer.zero_grad()
        self.assertEqual([it["applied"] for it in run.events("update")], [True, False])

    def test_has_no_norm_where_a_parameter_was_frozen_until_now(self) -> None:
        run = Run()
        run.model[0].requires_grad_(False)
        run.attach().update()
        run.model[0].requires_grad_(True)
        run.update()
        run.update()
        self.assertEqual(["grad_norm" in it for it in run.events("update")], [True, False, True])

    def test_has_the_targets_of_its_window(self) -> None:
        run = Run().attach()
        run.backward()
        run.update()
        run.update()
        self.assertEqual([(it["micro_batches"], it["targets"]) for it in run.events("update")], [(2, 2), (1, 1)])
        first = run.events("micro_batch")[0]
        self.assertEqual([first[name] for name in ("rows", "width", "tokens", "targets")], [1, 3, 2, 1])

    def test_counts_live_tensors_where_the_plan_asks_for_memory(self) -> None:
        run = Run().attach()
        run.update()
        (memory,) = run.events("memory")
        self.assertGreater(memory["lanes"]["tracked_tensors"], 0)


class AState(unittest.TestCase):
    def test_says_that_a_frozen_parameter_with_a_gradient_is_optimized(self) -> None:
        run = Run().attach()
        run.backward()
        run.model[0].weight.requires_grad_(False)
        run.model[0].bias.requires_grad_(False)
        run.model[0].bias.grad = None
        run.trace.state("end", 0, 0)
        (state,) = run.events("state")
        found = {it["name"]: (it["trainable"], it["optimized"]) for it in state["tensors"]}
        self.assertEqual((found["0.weight"], found["0.bias"]), ((False, True), (False, False)))

    def test_has_moments_after_an_update_and_not_before(self) -> None:
        run = Run().attach()
        run.trace.state("start", 0, 0)
        run.update()
        run.trace.state("update", 1, 0)
        self.assertEqual(["moments" in it["tensors"][0] for it in run.events("state")], [False, True])


class AnEvaluation(unittest.TestCase):
    def test_that_leaves_adapters_frozen_has_changed_no_parameter(self) -> None:
        run = Run().attach()

        def evaluate() -> tuple:
            run.model[1].requires_grad_(False)  # as PEFT's `disable_adapter` does
            return [0], [], float("nan")

        run.trace.evaluation(evaluate)
        (found,) = run.events("evaluation")
        self.assertEqual((found["digest_before"], found["metric"]), (found["digest_after"], "nan"))


class ASketch(unittest.TestCase):
    def test_shows_a_change_whose_parts_cancel(self) -> None:
        before = torch.zeros(8)
        changes = [torch.zeros(8).index_fill(0, torch.tensor([at]), 1.0) - torch.eye(8)[0] for at in range(1, 8)]
        self.assertTrue(all(float(it.sum()) == 0.0 for it in changes))
        seen = [TENSORS.sketch(before + change) != TENSORS.sketch(before) for change in changes]
        self.assertTrue(any(seen), seen)

    def test_covers_a_tensor_of_many_blocks(self) -> None:
        large = torch.zeros(200_001)
        for at in (0, 70_000, 200_000):
            changed = large.clone()
            changed[at] = 1.0
            self.assertEqual([abs(value) for value in TENSORS.sketch(changed)], [1.0, 1.0])

    def test_of_half_precision_complex_and_empty_tensors_is_a_list_of_numbers(self) -> None:
        for tensor in (torch.ones(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.cfloat), torch.ones(0)):
            self.assertEqual([type(value) for value in TENSORS.sketch(tensor)], [float, float])


class ANaN(unittest.TestCase):
    """A model that is lost must be judged: every number of it reaches the trace."""

    def test_in_the_model_reaches_probes_evaluations_updates_and_states(self) -> None:
        class Lost(Loop):
            def build(self) -> None:
                super().build()
                with torch.no_grad():
                    for parameter in self.model.parameters():
                        parameter.fill_(float("nan"))

        lines = io.StringIO()
        PlanRun(Lost(PLAN), Writer(lines)).make()
        events = [json.loads(line) for line in lines.getvalue().splitlines()]
        found = {event["event"]: event for event in events}
        self.assertEqual(found["end"]["reason"], "done")
        self.assertEqual(found["probe"]["rows"][0]["head"], ["nan"] * 8)
        self.assertEqual((found["evaluation"]["metric"], found["evaluation"]["losses"][0]["sum"]), ("nan", "nan"))
        self.assertEqual((found["update"]["grad_norm"], found["state"]["tensors"][0]["sketch"][0]), ("nan", "nan"))

    def test_or_an_infinity_in_a_head_is_counted(self) -> None:
        class Infinite(Loop):
            def build(self) -> None:
                super().build()
                with torch.no_grad():
                    self.model.projection.bias[0] = float("inf")

        lines = io.StringIO()
        PlanRun(Infinite(PLAN), Writer(lines)).make()
        probe = next(it for it in map(json.loads, lines.getvalue().splitlines()) if it["event"] == "probe")
        self.assertEqual([row["nonfinite"] for row in probe["rows"]], [1, 1])


if __name__ == "__main__":
    unittest.main()
