"""The plain loop with accelerate in charge of windows, clipping, schedule and checkpoints, as its documentation has it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Iterable, List

import torch
from accelerate import Accelerator, load_checkpoint_in_model

from ..trace import Writer
from .data import Batch
from .plain_loop import Loop
from .protocol import Plan
from .schedule import multiplier
from .told import summed


class AccelerateLoop(Loop):
    """A loop that asks `Accelerator` when a window is full, and has it save and load."""

    def __init__(self, plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
        super().__init__(plan, writer, description)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=plan["train"]["accumulation"])
        rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda taken: multiplier(plan, self.total, taken))
        self.rates = rates
        self.prepared, self.stepper, self.scheduler = self.accelerator.prepare(self.model, self.optimizer, rates)
        self.accelerator.register_for_checkpointing(self)

    def _batches(self, groups: List[List[int]]) -> Iterable[Batch]:
        if self.index == len(groups):
            return ()  # a loader that has nothing to give draws from the random stream all the same
        loader = torch.utils.data.DataLoader(self.samples, batch_sampler=groups, collate_fn=self.collate)
        prepared = self.accelerator.prepare(loader)
        return self.accelerator.skip_first_batches(prepared, self.index) if self.index else prepared

    def _micro_batch(self, batch: Batch, groups: List[List[int]]) -> None:
        self.model.train()
        with self.accelerator.accumulate(self.prepared):
            output = self.prepared(batch)
            weights = self._weights(groups)
            mean = sum(value / weights[name] for name, value in output.losses.items())
            # A share of the window's mean already, and `backward` divides by the steps of a whole window.
            self.accelerator.backward(mean * self.accelerator.gradient_accumulation_steps)
            self.told.micro_batch(self.epoch, self.index, batch, summed(output.losses, output.weights))
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
        # Windows begin with an epoch, wherever the run was taken up.
        return self.index - self.index % self.plan["train"]["accumulation"]

    def _schedule_step(self) -> int:
        return self.rates.last_epoch

    # Checkpoints: what `save_state` writes, and the loop's own place as an object registered for it.

    def state_dict(self) -> Dict[str, int]:
        """The loop's place."""
        return {"step": self.told.step, "epoch": self.epoch, "index": self.index}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Goes on from a place."""
        self.told.step, self.epoch, self.index = state["step"], state["epoch"], state["index"]
        self.told.epoch, self.told.index = self.epoch, self.index

    def _write(self, folder: Path) -> None:
        self.accelerator.save_state(str(folder))

    def _read(self, folder: Path, what: str) -> None:
        if what == "weights":
            load_checkpoint_in_model(self.model, str(folder))
        else:
            self.accelerator.load_state(str(folder))
