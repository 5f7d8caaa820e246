"""The plain loop with accelerate in charge of windows, clipping, schedule and checkpoints, as its documentation shows it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List

import torch
from accelerate import Accelerator, load_checkpoint_in_model

from ..trace import Writer
from .data import Batch
from .plain_loop import Loop
from .protocol import Plan
from .run_trace import summed
from .schedule import multiplier


class AccelerateLoop(Loop):
    """The loop asks `Accelerator` when a window is full, and lets it save and load."""

    def __init__(self, plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
        super().__init__(plan, writer, description)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=plan["train"]["accumulation"])
        rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda taken: multiplier(plan, self.total, taken))
        self.rates = rates
        self.prepared, self.stepper, self.scheduler = self.accelerator.prepare(self.model, self.optimizer, rates)
        self.accelerator.register_for_checkpointing(self)

    def _batches(self, groups: List[List[int]]) -> Iterable[Batch]:
        if self.index == len(groups):
            return ()  # a loader draws from the random stream when it starts, even if no batch is left
        loader = torch.utils.data.DataLoader(self.samples, batch_sampler=groups, collate_fn=self.collate)
        prepared = self.accelerator.prepare(loader)
        return self.accelerator.skip_first_batches(prepared, self.index) if self.index else prepared

    def _micro_batch(self, batch: Batch, groups: List[List[int]]) -> None:
        self.model.train()
        with self.accelerator.accumulate(self.prepared):
            output = self.prepared(batch)
            weights = self._weights(groups)
            mean = sum(value / weights[name] for name, value in output.losses.items())
            # `mean` is this micro-batch's share of the window's mean; `backward` divides by the accumulation once more.
            self.accelerator.backward(mean * self.accelerator.gradient_accumulation_steps)
            self.trace.micro_batch(self.epoch, self.index, batch, summed(output.losses, output.weights))
            self.index, self.window = self.index + 1, self.window + 1
            clip = self.plan["train"].get("clip")
            if self.accelerator.sync_gradients and clip is not None:
                self.accelerator.clip_grad_norm_(self.prepared.parameters(), clip)
            self.stepper.step()
            self.scheduler.step()
            self.stepper.zero_grad()
        if self.accelerator.sync_gradients:
            self._updated()

    def _window_begins(self) -> int:
        # accelerate starts a window with each epoch, wherever the run resumed.
        return self.index - self.index % self.plan["train"]["accumulation"]

    def _schedule_step(self) -> int:
        return self.rates.last_epoch

    # Checkpoints: `save_state` writes them, and saves this loop's place because the loop is registered with it.

    def state_dict(self) -> Dict[str, int]:
        """The loop's place in the run."""
        return {"step": self.trace.step, "epoch": self.epoch, "index": self.index}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Continues at a saved place."""
        self.epoch, self.index = state["epoch"], state["index"]
        self.trace.resume(state["step"], self.epoch, self.index)

    def _write(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder))

    def _read(self, folder: Path, what: str) -> None:
        if what == "weights":
            load_checkpoint_in_model(self.model, str(folder))
        else:
            self.accelerator.load_state(str(folder))


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    AccelerateLoop(plan, writer, description).run()
