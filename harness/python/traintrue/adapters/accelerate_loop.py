"""The plain loop with accelerate in charge of windows, clipping and schedule, as its documentation has it."""

from __future__ import annotations

from typing import Any, Dict, List

import torch
from accelerate import Accelerator

from ..trace import Writer
from .data import Batch, order
from .plain_loop import Loop
from .protocol import Plan
from .schedule import multiplier
from .told import summed


class AccelerateLoop(Loop):
    """A loop that asks `Accelerator` when a window is full."""

    def __init__(self, plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
        super().__init__(plan, writer, description)
        self.accelerator = Accelerator(cpu=True, gradient_accumulation_steps=plan["train"]["accumulation"])
        rates = torch.optim.lr_scheduler.LambdaLR(self.optimizer, lambda taken: multiplier(plan, self.total, taken))
        self.prepared, self.stepper, self.rates = self.accelerator.prepare(self.model, self.optimizer, rates)

    def _train(self) -> str:
        for self.epoch in range(self.plan["data"]["epochs"]):
            self.index = self.told.index = 0
            self.told.epoch = self.epoch
            self.told.edge(self.epoch, "begin")
            groups = order(self.plan, self.epoch)
            batches = torch.utils.data.DataLoader(self.samples, batch_sampler=groups, collate_fn=self.collate)
            for batch in self.accelerator.prepare(batches):
                self._accumulate(batch, groups)
            self.told.edge(self.epoch, "end")
        return "done"

    def _accumulate(self, batch: Batch, groups: List[List[int]]) -> None:
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
            self.rates.step()
            self.stepper.zero_grad()
        if self.accelerator.sync_gradients:
            self._updated()
