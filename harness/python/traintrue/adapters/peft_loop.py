"""The plain loop over a transformers model whose adapters PEFT makes, saves and loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List

import torch

from ..trace import Writer
from . import hf_model
from .data import Batch
from .plain_loop import Loop
from .plan_run import PlanRun
from .protocol import Plan
from .tiny import Output


class PeftLoop(Loop):
    """The loop leaves adapters and heads to PEFT, and nothing else."""

    name = "peft"

    def new_model(self) -> torch.nn.Module:
        start = self.plan.get("start")
        return hf_model.build(self.plan, self.newest_folder(Path(start["from"])) if start else None)

    def forward(self, batch: Batch) -> Output:
        return hf_model.forward(self.model, batch)

    def scales(self) -> List[Any]:
        return [it.scaling for it in self.model.modules() if isinstance(getattr(it, "scaling", None), dict)]

    def group(self, name: str) -> str:
        return hf_model.group_of(name, bool(self.plan["train"].get("adapters")))

    def save_model(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))

    def load_model(self, folder: Path) -> None:
        """`new_model` has loaded the model already: the optimizer must hold the parameters of the model that PEFT loaded."""


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    PlanRun(PeftLoop(plan), writer).make()
