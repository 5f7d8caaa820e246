"""The plain loop with accelerate in charge of windows, clipping, schedule and checkpoints, as its documentation shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable

import torch
from accelerate import Accelerator, load_checkpoint_in_model

from ..trace import Writer
from .data import Batch
from .plain_loop import Loop
from .plan_run import PlanRun
from .protocol import Plan
from .run_trace import Losses
from .schedule import multiplier


class AccelerateLoop(Loop):
    """The loop asks `Accelerator` when a window is full, and lets it save and load."""

    name = "accelerate"

    def build(self) -> None:
        super().build()
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=self.accumulation)
        self.rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda taken: multiplier(self.plan, self.total, taken))
        prepared = self.accelerator.prepare(self.model, self.optimizer, self.rates)
        self.prepared, self.stepper, self.scheduler = prepared
        self.accelerator.register_for_checkpointing(self)

    def batches(self) -> Iterable[Batch]:
        if self.index == self.each:
            return ()  # a loader draws from the random stream when it starts, even if no batch is left
        loader = torch.utils.data.DataLoader(self.samples, batch_sampler=self.order(), collate_fn=self.collate)
        prepared = self.accelerator.prepare(loader)
        return self.accelerator.skip_first_batches(prepared, self.index) if self.index else prepared

    def step(self, batch: Batch) -> Losses:
        self.model.train()
        with self.accelerator.accumulate(self.prepared):
            output = self.prepared(batch)
            # The mean is this micro-batch's share of the window's; `backward` divides by the accumulation once more.
            self.accelerator.backward(self.mean(output) * self.accelerator.gradient_accumulation_steps)
            clip = self.plan["train"].get("clip")
            if self.accelerator.sync_gradients and clip is not None:
                self.accelerator.clip_grad_norm_(self.prepared.parameters(), clip)
            self.stepper.step()
            self.scheduler.step()
            self.stepper.zero_grad()
        return output.sums()

    def window_begins(self) -> int:
        # accelerate starts a window with each epoch, wherever the run resumed.
        return self.index - self.index % self.accumulation

    def schedule_step(self) -> int:
        return self.rates.last_epoch

    # Checkpoints: `save_state` writes them, and saves this loop's place because the loop is registered with it.

    def state_dict(self) -> Dict[str, int]:
        """The loop's place in the run."""
        return {"step": self.trace.step, "epoch": self.epoch, "index": self.index}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Continues at a saved place."""
        self.epoch, self.index = state["epoch"], state["index"]
        self.trace.resume(state["step"], self.epoch, self.index)

    def save(self, root: Path) -> Path:
        folder = self.new_folder(root)
        self.accelerator.save_state(str(folder))
        return self.finished(folder)

    def load(self, root: Path, what: str) -> Path:
        folder = self.newest_folder(root)
        if what == "weights":
            load_checkpoint_in_model(self.model, str(folder))
        else:
            self.accelerator.load_state(str(folder))
        return folder


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    PlanRun(AccelerateLoop(plan), writer).make()
