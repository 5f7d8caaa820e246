"""Tells what was inside a micro-batch: its rows, the logits behind its loss, and what its dropouts did.

It is seen at torch's own functions while the trainer's step runs: a trainer that shifts its labels twice tells labels that are
shifted twice, whatever its batch says.
"""

from __future__ import annotations

from typing import Any, Dict, List, Optional

import torch
from torch.nn import functional

from ..batches import IGNORED, tensors_of
from ..tensors import Torch, digest
from ..trace import number
from .schedule import micro_batches

# The first micro-batches of an epoch are told, then each of so many, and the last.
FIRST, EACH = 4, 64
# A loss may leave out fewer positions than this at the end of each row, because they have no target.
SHIFTS = 4
# The units that a mask's digest is of.
UNITS = 512
TENSORS = Torch()


class Told:
    """`with Told(plan, index, batch, model) as told: step()`, then the fields of `told` belong to the micro-batch's event."""

    def __init__(self, plan: Dict[str, Any], index: int, batch: Dict[str, torch.Tensor], model: torch.nn.Module) -> None:
        due = index < FIRST or index % EACH == 0 or index + 1 == micro_batches(plan)
        # To tell takes memory, which such a run measures.
        self._due = due and not plan.get("sample_memory") and not plan.get("memory")
        self._vocabulary = plan["data"]["tokens"]["vocabulary"]
        # A copy: a step may take its batch apart.
        self._batch, self._model = dict(batch), model
        self._targets: List[torch.Tensor] = []
        self._logits: Optional[torch.Tensor] = None
        self._dropouts: Optional[List[dict]] = None

    def __enter__(self) -> Told:
        if self._due:
            self._original = functional.cross_entropy, functional.dropout
            functional.cross_entropy, functional.dropout = self._cross_entropy, self._dropout
            self._hook = self._model.register_forward_hook(self._forward)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._due:
            functional.cross_entropy, functional.dropout = self._original
            self._hook.remove()

    def fields(self) -> Dict[str, Any]:
        """`told` and `dropout` of the micro-batch, as far as they were seen."""
        seen = {"told": self._rows(), "dropout": self._dropouts}
        return {name: value for name, value in seen.items() if value is not None}

    def _forward(self, _module: Any, _inputs: Any, output: Any) -> None:
        wanted = (*self._batch["input_ids"].shape, self._vocabulary)
        if _is_forward():
            # What the model gives, before anything changes it on its way to the loss.
            self._logits = next((it.detach() for it in tensors_of(output, TENSORS) if it.shape == wanted), self._logits)

    def _cross_entropy(self, logits: torch.Tensor, target: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
        if _is_forward() and logits.shape[1:] == (self._vocabulary,) and not target.is_floating_point():
            # A loss that is computed again, for a log, has the same targets.
            if not any(torch.equal(it, target) for it in self._targets):
                self._targets.append(target.detach())
        return self._original[0](logits, target, *args, **more)

    def _rows(self) -> Optional[List[dict]]:
        ids, real, samples = (self._batch.get(name) for name in ("input_ids", "attention_mask", "ids"))
        # A loss in several parts, and rows beside those of the samples, are not told.
        if len(self._targets) != 1 or self._logits is None or ids is None or real is None or len(samples) != len(ids):
            return None
        rows, width = ids.shape
        if self._targets[0].numel() not in [rows * (width - shift) for shift in range(SHIFTS)]:
            return None
        targets = self._targets[0].reshape(rows, -1)
        is_target = targets != IGNORED
        logits = self._logits.double()[:, : targets.shape[1]]
        at_target = logits.gather(2, targets.clamp(min=0)[..., None])[..., 0]
        figures = torch.stack([at_target, logits.logsumexp(2)], 2)
        told = []
        for row in range(rows):
            own = [None if it == IGNORED else it for it in targets[row].tolist()]
            told.append(
                {
                    "sample": int(samples[row]),
                    "ids": ids[row].tolist(),
                    "real": [bool(it) for it in real[row].tolist()],
                    # The last positions of a row have no target.
                    "targets": own + [None] * (width - len(own)),
                    "logits": [[number(one), number(other)] for one, other in figures[row][is_target[row]].tolist()],
                }
            )
        return told

    def _dropout(
        self, input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> torch.Tensor:
        before = input.detach().clone() if inplace else input.detach()
        output = self._original[1](input, p, training, inplace)
        if p > 0 and _is_forward():
            self._dropouts = self._dropouts or []
            told = _dropped(before, output.detach()) if training else None
            self._dropouts += [told] if told is not None else []
        return output


def _is_forward() -> bool:
    """Whether this is no repeated forward of activation checkpointing, within a backward pass."""
    return bool(torch._C._current_graph_task_id() == -1)


def _dropped(before: torch.Tensor, after: torch.Tensor) -> Optional[Dict[str, Any]]:
    """What became of the units that were not 0 before; none if there was no such unit."""
    live = before != 0
    dropped = live & (after == 0)
    kept = live & ~dropped
    units = int(live.sum())
    if units == 0:
        return None
    by_position = dropped.reshape(-1, dropped.shape[-1])
    scale = float((after[kept].double() / before[kept].double()).median()) if bool(kept.any()) else 0.0
    return {
        "units": units,
        "dropped": int(dropped.sum()),
        "scale": number(scale),
        "positions": len(by_position),
        "masks": len(torch.unique(by_position, dim=0)),
        "digest": digest(bytes(dropped.flatten()[:UNITS].to(torch.uint8).tolist())),
    }
