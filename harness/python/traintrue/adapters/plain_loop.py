"""A training loop in plain PyTorch, as a textbook writes it, that follows a plan."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import torch

from ..trace import Writer
from .adapter import Adapter
from .data import Batch
from .plan_run import PlanRun
from .protocol import Plan
from .run_trace import Losses
from .table import TABLE
from .tiny import Adapted, Output, Tiny, group_of


class Loop(Adapter):
    """Model, optimizer, schedule, and the place in the data."""

    adjustable = ("tail", "first_lr")
    name = "plain"

    @classmethod
    def describe(cls) -> Dict[str, Any]:
        return TABLE[cls.name].describe()

    def build(self) -> None:
        torch.manual_seed(self.plan["seed"] % 2**63)
        torch.set_num_threads(1)
        self.model = self.new_model()
        self.optimizer = torch.optim.AdamW(self.groups(), **self.adamw())

    def step(self, batch: Batch) -> Losses:
        self.model.train()
        output = self.forward(batch)
        self.mean(output).backward()
        if self.closes():
            self.set_rate()
            clip = self.plan["train"].get("clip")
            if clip is not None:
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
            self.optimizer.step()
            self.optimizer.zero_grad()
        elif self.index + 1 == self.each and self.contract["tail"] == "drop":
            self.optimizer.zero_grad()
        return output.sums()

    def mean(self, output: Output) -> torch.Tensor:
        """This micro-batch's share of the window's mean losses."""
        weights = self.weights()
        return sum(value / weights[name] for name, value in output.losses.items())

    def weights(self) -> Dict[str, int]:
        """The divisors of the open window's losses: supervised tokens, and rows with a token, of all its micro-batches."""
        filled = sum(len(self.samples[at]["tokens"]) > 0 for group in self.window_samples() for at in group)
        return {"lm": self.window_targets(), "projection": max(filled, 1)}

    def new_model(self) -> torch.nn.Module:
        """The model of the plan."""
        return Tiny(self.plan)

    def parts(self) -> Dict[str, Any]:
        scales = self.scales()
        return {**super().parts(), **({"adapter-scale": scales} if scales else {})}

    def scales(self) -> List[Any]:
        """What each adapter's delta is multiplied by: no tensor, and lost where only tensors are saved."""
        return [it.scale for it in self.model.modules() if isinstance(it, Adapted)]

    def group(self, name: str) -> str:
        return group_of(name, bool(self.plan["train"].get("adapters")))

    # Checkpoints.

    def save(self, root: Path) -> Path:
        folder = self.new_folder(root)
        self.save_model(folder)
        state = {
            "optimizer": self.optimizer.state_dict(),
            "gradients": {name: it.grad for name, it in self.model.named_parameters() if it.grad is not None},
            "rng": torch.get_rng_state(),
            "place": self.place(),
        }
        torch.save(state, folder / "state.pt")
        return self.finished(folder)

    def load(self, root: Path, what: str) -> Path:
        folder = self.newest_folder(root)
        self.load_model(folder)
        if what == "weights":
            return folder
        state = torch.load(folder / "state.pt", weights_only=True)
        self.optimizer.load_state_dict(state["optimizer"])
        for name, it in self.model.named_parameters():
            it.grad = state["gradients"].get(name)
        torch.set_rng_state(state["rng"])
        self.resume(state["place"])
        return folder

    def save_model(self, folder: Path) -> None:
        """Writes the model's weights."""
        torch.save(self.model.state_dict(), folder / "model.pt")

    def load_model(self, folder: Path) -> None:
        """Loads the model's weights."""
        self.model.load_state_dict(torch.load(folder / "model.pt", weights_only=True))


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    PlanRun(Loop(plan), writer).make()
