"""The base class for adapters: what it writes about a trainer, and what it leaves to the trainer."""

from __future__ import annotations

import copy
import io
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Type

import torch
from torch import nn

from traintrue.adapters.adapter import Adapter, Batch, Declined, Losses, Output, of_tokens
from traintrue.adapters.plan_run import PlanRun
from traintrue.adapters.protocol import carry_out
from traintrue.trace import Writer

from .test_run_trace import PLAN

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "my_adapter.py"


class Small(Adapter):
    """A model with batch norm, a scheduler, and a load that makes everything anew."""

    trainer = "small 1"
    capabilities = ("resume", "evaluation", "probes")
    conventions = {"targets": "tokens"}

    def build(self) -> None:
        torch.manual_seed(self.plan["seed"])
        self.make()

    def make(self) -> None:
        self.model = nn.Sequential(nn.Embedding(16, 8), Transposed(8), nn.Linear(8, 16))
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate())
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 10)

    def forward(self, batch: Batch) -> Output:
        return of_tokens(self.model(batch["input_ids"]), batch)

    def step(self, batch: Batch) -> Losses:
        self.model.train()
        output = self.forward(batch)
        (output.losses["lm"] / self.window_targets()).backward()
        if self.closes():
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
        return output.sums()

    def parts(self) -> Dict[str, Any]:
        return {**super().parts(), "scheduler": self.scheduler.state_dict()}

    def schedule_step(self) -> int:
        return self.scheduler.last_epoch

    def save(self, root: Path) -> Path:
        folder = self.new_folder(root)
        objects = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        state = {name: it.state_dict() for name, it in objects.items()}
        torch.save({**state, "place": self.place(), "rng": torch.get_rng_state()}, folder / "all.pt")
        return self.finished(folder)

    def load(self, root: Path, what: str) -> Path:
        folder = self.newest_folder(root)
        state = torch.load(folder / "all.pt", weights_only=True)
        self.make()
        for name, it in {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}.items():
            it.load_state_dict(state[name])
        torch.set_rng_state(state["rng"])
        self.resume(state["place"])
        return folder


class Transposed(nn.Module):
    """Batch norm over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(x.transpose(1, 2)).transpose(1, 2)


def events_of(adapter: Type[Adapter], plan: Dict[str, Any]) -> List[Dict[str, Any]]:
    lines = io.StringIO()
    PlanRun(adapter(plan), Writer(lines)).make()
    return [json.loads(line) for line in lines.getvalue().splitlines()]


def plan(**more: Any) -> Dict[str, Any]:
    made = copy.deepcopy(PLAN)
    made["train"].update(heads=[], dtype="f32", dropout=0.1, clip=0.5)
    return {**made, "state_every": 1, "sample_memory": [], **more}


def cut(adapter: Type[Adapter], **more: Any) -> List[Dict[str, Any]]:
    """The second of two segments, cut after one micro-batch."""
    folder = tempfile.mkdtemp()
    events_of(adapter, plan(stop={"epoch": 0, "micro_batches": 1, "save": folder}, **more))
    return events_of(adapter, plan(start={"from": folder, "what": "everything"}, **more))


class ARun(unittest.TestCase):
    def test_has_each_micro_batch_before_the_update_that_it_completes(self) -> None:
        names = [it["event"] for it in events_of(Small, plan()) if it["event"] in ("micro_batch", "update", "evaluation", "end")]
        self.assertEqual(names, ["micro_batch", "update", "evaluation"] * 2 + ["end"])

    def test_says_the_conventions_of_its_trainer(self) -> None:
        self.assertEqual(events_of(Small, plan())[0]["contract"]["targets"], "tokens")
        wrong = type("Wrong", (Small,), {"conventions": {"tale": "drop"}})
        self.assertRaisesRegex(ValueError, "conventions: unknown tale; expected some of tail,", wrong.describe)

    def test_that_is_declined_ends_with_the_reason(self) -> None:
        def build(_self: Adapter) -> None:
            raise Declined("no adapters in this model")

        declining = type("Declining", (Small,), {"build": build})
        lines = io.StringIO()
        lines.close = lambda: None  # type: ignore[method-assign]
        carry_out(plan(), lines, declining.describe(), lambda it, writer: PlanRun(declining(it), writer).make())
        events = [json.loads(line) for line in lines.getvalue().splitlines()]
        self.assertEqual([it["event"] for it in events], ["run", "end"])
        self.assertEqual((events[1]["reason"], events[1]["message"]), ("declined", "no adapters in this model"))

    def test_that_loses_its_numbers_is_written_to_its_end(self) -> None:
        def step(self: Small, batch: Batch) -> Losses:
            losses = Small.step(self, batch)
            with torch.no_grad():
                self.model[2].weight.fill_(float("nan"))
            return losses

        events = events_of(type("Lost", (Small,), {"step": step}), plan())
        found = {it["event"]: it for it in events}
        self.assertEqual((found["evaluation"]["metric"], found["probe"]["rows"][0]["loss"]), ("nan", "nan"))
        self.assertEqual(found["end"]["reason"], "done")


class ALoad(unittest.TestCase):
    """That makes another model and another optimizer: both are listened to, in place of those before."""

    def test_is_followed_by_the_updates_of_the_whole_run(self) -> None:
        whole, resumed = events_of(Small, plan()), cut(Small)
        updates = [it for it in resumed if it["event"] == "update"]
        self.assertEqual(updates, [it for it in whole if it["event"] == "update"][1:])
        self.assertEqual(resumed[-2]["tensors"], whole[-2]["tensors"])

    def test_brings_back_more_than_parameters(self) -> None:
        folder_free = [it for it in cut(Small) if it["event"] == "state"]
        start, loaded = folder_free[0], folder_free[1]
        self.assertEqual((loaded["at"], set(loaded["parts"])), ("loaded", {"buffers", "scheduler", "batch-statistics"}))
        self.assertNotEqual(start["parts"], loaded["parts"])

        def load(self: Small, root: Path, what: str) -> Path:
            place = Small.load(self, root, what)
            self.model[1].norm.reset_running_stats()
            return place

        forgetful = [it for it in cut(type("Forgetful", (Small,), {"load": load})) if it["event"] == "state"]
        self.assertNotEqual(forgetful[1]["parts"]["buffers"], loaded["parts"]["buffers"])
        self.assertEqual(forgetful[1]["parts"]["scheduler"], loaded["parts"]["scheduler"])


class TheExample(unittest.TestCase):
    def answer(self, *words: str, given: str = "") -> subprocess.CompletedProcess:
        command = [sys.executable, str(EXAMPLE), *words]
        environment = {**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])}
        return subprocess.run(command, env=environment, input=given, capture_output=True, text=True, check=False)

    def test_describes_itself_and_runs_a_plan(self) -> None:
        described = json.loads(self.answer("--my-flag", "x", "describe").stdout)
        self.assertEqual((described["schema"], described["trainer"]), (1, "my loop 1.0"))
        ran = self.answer("run", given=json.dumps(plan()))
        events = [json.loads(line)["event"] for line in ran.stdout.splitlines()]
        self.assertEqual((ran.returncode, events[0], events[-1]), (0, "run", "end"), ran.stderr)

    def test_declines_a_plan_that_it_cannot_follow(self) -> None:
        asked = plan()
        asked["train"]["dtype"] = "bf16"
        ran = self.answer("run", given=json.dumps(asked))
        self.assertEqual((ran.returncode, json.loads(ran.stdout.splitlines()[-1])["reason"]), (0, "declined"))

    def test_names_the_verbs(self) -> None:
        ran = self.answer("walk")
        self.assertIn("[ARGUMENTS] {describe,run,serve}", ran.stderr)
        self.assertNotEqual(ran.returncode, 0)


if __name__ == "__main__":
    unittest.main()
