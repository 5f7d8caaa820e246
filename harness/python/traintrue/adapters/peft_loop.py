"""The plain loop over a model of transformers that PEFT has adapted, saved and loaded by PEFT."""

from __future__ import annotations

from pathlib import Path

import torch

from . import hf_model
from .data import Batch
from .plain_loop import Loop, newest
from .tiny import Output


class PeftLoop(Loop):
    """A loop that leaves adapters and heads to PEFT, and nothing else."""

    group_of = staticmethod(hf_model.group_of)

    def _build(self) -> torch.nn.Module:
        start = self.plan.get("start")
        return hf_model.build(self.plan, newest(Path(start["from"])) if start else None)

    def _forward(self, batch: Batch) -> Output:
        return hf_model.forward(self.model, batch)

    def _write_model(self, folder: Path) -> None:
        self.model.save_pretrained(str(folder))

    def _read_model(self, folder: Path) -> None:
        """It was loaded as it was built: the optimizer wants the parameters of what was loaded."""
