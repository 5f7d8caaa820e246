"""A training loop in plain PyTorch, as a textbook writes it, that follows a plan."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any, Dict, Iterable, List

import torch

from ..trace import Writer, loss
from . import probes
from .data import Batch, Collator, Samples, order, targets
from .protocol import Plan
from .run_trace import RunTrace, summed
from .schedule import micro_batches, multiplier, updates
from .tiny import Output, Tiny, group_of


class Loop:
    """Model, optimizer, schedule, and the place in the data."""

    group_of = staticmethod(group_of)

    def __init__(self, plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
        self.plan = plan
        asked = {name: value for name, value in plan.get("contract", {}).items() if value is not None}
        # A plan may ask for further conventions. Those that the loop cannot change stay as it declares them.
        self.contract = {**description["contract"], **{name: asked[name] for name in ("tail", "first_lr") if name in asked}}
        torch.manual_seed(plan["seed"] % 2**63)
        torch.set_num_threads(1)
        self.model = self._build()
        self.optimizer = self._optimizer()
        self.trace = RunTrace(plan, writer, description, self.contract)
        adapted = bool(plan["train"].get("adapters"))
        self.trace.attach(self.model, self.optimizer, lambda name: self.group_of(name, adapted))
        self.samples, self.collate = Samples(plan), Collator(plan)
        self.total = updates(plan, self.contract["tail"])
        self.each = micro_batches(plan)
        self.epoch = self.index = self.window = 0

    def run(self) -> None:
        """Trains from the plan's start to its stop or its end."""
        self._state("start")
        if self.plan.get("start"):
            self._load(Path(self.plan["start"]["from"]), self.plan["start"].get("what", "everything"))
        self._probe("start")
        reason = self._train()
        self._probe("end")
        self._state("end")
        stop = self.plan.get("stop")
        if stop and stop.get("save"):
            self._save(Path(stop["save"]))
        self.trace.end(reason)

    def _train(self) -> str:
        if self._at_stop():
            return "stopped"
        while self.epoch < self.plan["data"]["epochs"]:
            groups = order(self.plan, self.epoch)
            if self.index == 0:
                self.trace.epoch_edge(self.epoch, "begin")
            for batch in self._batches(groups):
                self._micro_batch(batch, groups)
                if self.index == len(groups):
                    self.trace.epoch_edge(self.epoch, "end")
                if self._at_stop():
                    return "stopped"
            self.epoch, self.index = self.epoch + 1, 0
            self.trace.epoch, self.trace.index = self.epoch, 0
        return "done"

    def _batches(self, groups: List[List[int]]) -> Iterable[Batch]:
        """The batches of an epoch that are still to come."""
        return (self.collate([self.samples[at] for at in group]) for group in groups[self.index :])

    def _micro_batch(self, batch: Batch, groups: List[List[int]]) -> None:
        self.model.train()
        output = self._forward(batch)
        weights = self._weights(groups)
        sum(value / weights[name] for name, value in output.losses.items()).backward()
        self.trace.micro_batch(self.epoch, self.index, batch, summed(output.losses, output.weights))
        self.index, self.window = self.index + 1, self.window + 1
        last = self.index == len(groups)
        if self.window == self.plan["train"]["accumulation"] or (last and self.contract["tail"] == "flush"):
            self._update()
        elif last and self.contract["tail"] == "drop":
            self.optimizer.zero_grad()
            self.window = 0

    def _weights(self, groups: List[List[int]]) -> Dict[str, int]:
        """The divisors of the open window's losses: supervised tokens, and rows with a token, of all its micro-batches.

        The plan's order tells them before the window is complete, so that each micro-batch is divided when it is made.
        """
        first = self._window_begins()
        size = self.plan["train"]["accumulation"]
        window = [group for at, group in enumerate(groups) if first <= at < first + size]
        if self.contract["tail"] == "carry":
            if first < 0:
                window = order(self.plan, self.epoch - 1)[first:] + window
            if first + size > len(groups) and self.epoch + 1 < self.plan["data"]["epochs"]:
                window += order(self.plan, self.epoch + 1)[: first + size - len(groups)]
        lengths = [len(self.samples[at]["tokens"]) for group in window for at in group]
        supervised, filled = sum(max(length - 1, 0) for length in lengths), sum(length > 0 for length in lengths)
        return {"lm": max(supervised, 1), "projection": max(filled, 1)}

    def _window_begins(self) -> int:
        """The index of the open window's first micro-batch; negative if the window began in the epoch before."""
        return self.index - self.window

    def _update(self) -> None:
        taken = self.trace.step + (self.contract["first_lr"] == "nonzero")
        for group in self.optimizer.param_groups:
            group["lr"] = self.plan["train"]["optimizer"]["lr"] * multiplier(self.plan, self.total, taken)
        clip = self.plan["train"].get("clip")
        if clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self._updated()

    def _updated(self) -> None:
        """Does what the plan asks for after an update."""
        self.window = 0
        if self.trace.state_is_due():
            self._state("update")
        every = self.plan.get("evaluate_every")
        if every and self.trace.step % every == 0:
            self.trace.evaluation(self._evaluate)
        every = self.plan.get("save_every")
        if every and self.trace.step % every == 0:
            self._save(Path(self.plan["save_to"]))

    def _evaluate(self) -> tuple:
        self.model.eval()
        held_out = Samples(self.plan, "evaluation")
        size = self.plan["data"]["batch"]
        sums, weights = [], []
        with torch.no_grad():
            for at in range(0, len(held_out), size):
                batch = self.collate([held_out[it] for it in range(at, min(at + size, len(held_out)))])
                sums.append(float(self._forward(batch).losses["lm"]))
                weights.append(targets(batch))
        self.model.train()
        losses = [loss("lm", total, weight) for total, weight in zip(sums, weights)]
        # The mean over tokens, not over batches: the last batch is smaller.
        return list(range(len(held_out))), losses, sum(sums) / max(sum(weights), 1)

    def _probe(self, at: str) -> None:
        probes.make(self.plan, at, self.model, self._forward, self.trace)

    def _state(self, at: str) -> None:
        self.trace.state(at, self._schedule_step(), self.window)

    def _schedule_step(self) -> int:
        return self.trace.step

    def _at_stop(self) -> bool:
        stop = self.plan.get("stop")
        return bool(stop) and self._edge(stop["epoch"], stop["micro_batches"]) == self._edge(self.epoch, self.index)

    def _edge(self, epoch: int, index: int) -> tuple:
        """The end of an epoch is the beginning of the next."""
        return (epoch, index) if index < self.each else (epoch + 1, 0)

    def _build(self) -> torch.nn.Module:
        return Tiny(self.plan)

    def _forward(self, batch: Batch) -> Output:
        return self.model(batch)

    def _optimizer(self) -> torch.optim.Optimizer:
        asked = self.plan["train"]["optimizer"]
        trained = [it for it in self.model.parameters() if it.requires_grad]
        groups = [
            {"params": [it for it in trained if it.dim() > 1], "weight_decay": asked["decay"]},
            {"params": [it for it in trained if it.dim() < 2], "weight_decay": 0.0},
        ]
        return torch.optim.AdamW(groups, lr=asked["lr"], betas=tuple(asked["betas"]), eps=asked["eps"])

    # Checkpoints.

    def _save(self, folder: Path) -> None:
        place = folder / f"{self.trace.step:08}-{self.epoch}-{self.index}"
        partial = folder / "partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        self._write(partial)
        shutil.rmtree(place, ignore_errors=True)
        # A process that is killed while it writes leaves `partial`, and never half a checkpoint under its final name.
        os.replace(partial, place)
        self.trace.checkpoint("saved", str(place))

    def _load(self, folder: Path, what: str) -> None:
        place = newest(folder)
        self._read(place, what)
        self.trace.checkpoint("loaded", str(place))
        self._state("loaded")

    def _write(self, folder: Path) -> None:
        self._write_model(folder)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "gradients": {name: it.grad for name, it in self.model.named_parameters() if it.grad is not None},
            "rng": torch.get_rng_state(),
            "place": [self.trace.step, self.epoch, self.index, self.window, self.trace.targets],
        }
        torch.save(state, folder / "state.pt")

    def _read(self, folder: Path, what: str) -> None:
        self._read_model(folder)
        if what == "weights":
            return
        state = torch.load(folder / "state.pt", weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        for name, it in self.model.named_parameters():
            it.grad = state["gradients"].get(name)
        torch.set_rng_state(state["rng"])
        step, self.epoch, self.index, self.window, supervised = state["place"]
        self.trace.resume(step, self.epoch, self.index)
        self.trace.resume_window(self.window, supervised)

    def _write_model(self, folder: Path) -> None:
        torch.save(self.model.state_dict(), folder / "model.pt")

    def _read_model(self, folder: Path) -> None:
        self.model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    Loop(plan, writer, description).run()


def newest(folder: Path) -> Path:
    """The latest checkpoint in a folder."""
    places = (it for it in folder.iterdir() if it.name != "partial")
    return max(places, key=lambda it: [int(part) for part in it.name.split("-")])
