"""Tells what was inside a micro-batch: its rows, the logits behind its loss, and what its dropouts did.

It is seen at torch's own functions while the trainer's step runs: a trainer that shifts its labels twice tells labels that are
shifted twice, whatever its batch says. The logits are those that the model gives: what is changed between the model and its
loss belongs into the model's forward, or is held against the loss. A loss that `cross_entropy` does not take row by row is
not told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional

import torch
from torch.nn import functional

from ..batches import IGNORED, tensors_of
from ..observe.patches import Patches
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
        self._losses: List[_Loss] = []
        # Forwards of the model that are under way, and the logits of the last that has ended.
        self._depth = 0
        self._logits: Optional[torch.Tensor] = None
        self._dropouts: Optional[List[dict]] = None
        self._patches = Patches()

    def __enter__(self) -> Told:
        if self._due:
            self._patches.wrap(functional, "cross_entropy", self._cross_entropy)
            self._patches.wrap(functional, "dropout", self._dropout)
            self._patches.hook(self._model.register_forward_pre_hook(self._begins))
            self._patches.hook(self._model.register_forward_hook(self._ends))
        return self

    def __exit__(self, *_: Any) -> None:
        self._patches.release()

    def fields(self) -> Dict[str, Any]:
        """`told` and `dropout` of the micro-batch, as far as they were seen."""
        seen = {"told": self._rows(), "dropout": self._dropouts}
        return {name: value for name, value in seen.items() if value is not None}

    def _begins(self, _module: Any, _inputs: Any) -> None:
        self._depth += 1

    def _ends(self, _module: Any, _inputs: Any, output: Any) -> None:
        self._depth -= 1
        if _is_trained():
            self._logits = self._logits_of(output)
            # A loss that the model takes itself has its logits only now.
            for loss in self._losses:
                if loss.waits:
                    loss.model, loss.waits = self._logits, False

    def _logits_of(self, output: Any) -> Optional[torch.Tensor]:
        """What the model gives, before anything changes it on its way to the loss; none where several tensors may be meant."""
        named = output.get("logits") if isinstance(output, Mapping) else getattr(output, "logits", None)
        candidates = [named] if torch.is_tensor(named) else tensors_of(output, TENSORS)
        wanted = (*self._batch["input_ids"].shape, self._vocabulary)
        found = [it.detach() for it in candidates if it.shape == wanted]
        return found[0] if len(found) == 1 else None

    def _cross_entropy(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def loss(logits: torch.Tensor, target: torch.Tensor, *args: Any, **more: Any) -> torch.Tensor:
            if _is_trained() and logits.shape[1:] == (self._vocabulary,) and not target.is_floating_point():
                # Its third argument by place, as torch has it.
                ignored = more.get("ignore_index", args[2] if len(args) > 2 else IGNORED)
                # A loss that is computed again, for a log, has the same targets.
                if not any(torch.equal(it.target, target) for it in self._losses):
                    self._losses.append(_Loss(logits.detach(), target.detach(), ignored, self._logits, self._depth > 0))
            return original(logits, target, *args, **more)

        return loss

    def _rows(self) -> Optional[List[dict]]:
        ids, real, samples = (self._batch.get(name) for name in ("input_ids", "attention_mask", "ids"))
        # A loss in several parts, and rows beside those of the samples, are not told.
        if len(self._losses) != 1 or ids is None or real is None or samples is None or len(samples) != len(ids):
            return None
        loss, (rows, width) = self._losses[0], ids.shape
        begin = loss.begin(rows, width)
        if begin is None or loss.model is None:
            return None
        targets = loss.target.reshape(rows, -1)
        is_target = targets != loss.ignored
        logits = loss.model.double()[:, begin : begin + targets.shape[1]]
        at_target = logits.gather(2, targets.where(is_target, 0)[..., None])[..., 0]
        figures = torch.stack([at_target, logits.logsumexp(2)], 2)
        told = []
        for row in range(rows):
            own = [None if it == loss.ignored else it for it in targets[row].tolist()]
            told.append(
                {
                    "sample": int(samples[row]),
                    "ids": ids[row].tolist(),
                    "real": [bool(it) for it in real[row].tolist()],
                    # Positions beside those of the loss have no target.
                    "targets": [None] * begin + own + [None] * (width - begin - len(own)),
                    "logits": [[number(one), number(other)] for one, other in figures[row][is_target[row]].tolist()],
                }
            )
        return told

    def _dropout(self, original: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def dropout(
            input: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
        ) -> torch.Tensor:
            before = input.detach().clone() if inplace else input.detach()
            output = original(input, p, training, inplace)
            if p > 0 and _is_trained():
                if training:
                    told = _dropped(before, output.detach())
                    self._dropouts = (self._dropouts or []) + ([told] if told is not None else [])
                elif not self._model.training:
                    # A part that is kept in evaluation mode says nothing of the others, whose dropout may be inside of one
                    # kernel.
                    self._dropouts = self._dropouts or []
            return output

        return dropout


@dataclass
class _Loss:
    """A call of `cross_entropy`: what it was given, and the logits that the model gave."""

    logits: torch.Tensor
    target: torch.Tensor
    ignored: int
    model: Optional[torch.Tensor]
    # Whether the model's forward is under way.
    waits: bool

    def begin(self, rows: int, width: int) -> Optional[int]:
        """The position of each row where the loss begins; none where the loss is not over rows of the model's logits."""
        if self.model is None or self.target.numel() % rows:
            return None
        positions = self.target.numel() // rows
        shift = width - positions
        if not 0 <= shift < SHIFTS:
            return None
        # A temperature, a cap or a softmax leaves the largest logit where it is; another order of the rows does not.
        largest = self.logits.argmax(1).reshape(rows, positions)
        of_model = self.model.argmax(2)
        offsets = range(shift + 1)
        return next((at for at in offsets if torch.equal(of_model[:, at : at + positions], largest)), None)


def _is_trained() -> bool:
    """Whether this is part of a forward that trains: none without gradients, and no repeated one of activation checkpointing,
    within a backward pass."""
    return torch.is_grad_enabled() and bool(torch._C._current_graph_task_id() == -1)


def _dropped(before: torch.Tensor, after: torch.Tensor) -> Optional[Dict[str, Any]]:
    """What became of the units that were not 0 before; none if there was no such unit."""
    live = before != 0
    dropped = live & (after == 0)
    kept = live & ~dropped
    units = int(live.sum())
    if units == 0:
        return None
    # Of a position with units that were 0 before, the mask is not known.
    known = live.reshape(-1, live.shape[-1]).all(1)
    by_position = dropped.reshape(-1, dropped.shape[-1])[known]
    scale = float((after[kept].double() / before[kept].double()).median()) if bool(kept.any()) else 0.0
    return {
        "units": units,
        "dropped": int(dropped.sum()),
        "scale": number(scale),
        "positions": len(by_position),
        "masks": len(torch.unique(by_position, dim=0)) if len(by_position) else 0,
        "digest": digest(bytes(dropped[live][:UNITS].to(torch.uint8).tolist())),
    }
