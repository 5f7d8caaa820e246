"""The plain loop over a transformers model whose adapters PEFT makes, saves and loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict

import torch

from ..trace import Writer
from . import hf_model
from .data import Batch
from .plain_loop import Loop, newest
from .protocol import Plan
from .tiny import Output


class PeftLoop(Loop):
    """The loop leaves adapters and heads to PEFT, and nothing else."""

    group_of = staticmethod(hf_model.group_of)

    def _build(self) -> torch.nn.Module:
        start = self.plan.get("start")
        return hf_model.build(self.plan, newest(Path(start["from"])) if start else None)

    def _forward(self, batch: Batch) -> Output:
        return hf_model.forward(self.model, batch)

    def _write_model(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))

    def _read_model(self, folder: Path) -> None:
        """`_build` has loaded the model already: the optimizer must hold the parameters of the model that PEFT loaded."""


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    PeftLoop(plan, writer, description).run()
