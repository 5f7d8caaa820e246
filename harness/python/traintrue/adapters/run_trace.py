"""Writes the trace of a trainer that follows a plan, from the trainer's real model, optimizer and gradients.

Updates, states, evaluations and memory are written by the same classes as for a recorded loop. A plan adds what a recorder
cannot know: sample ids, losses by name, the place in the schedule and in the data, and probes.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import torch
from torch.nn.modules.batchnorm import _BatchNorm

from ..batches import describe
from ..evaluation import Evaluation
from ..memory import Memory
from ..observe.patches import Patches
from ..parameters import Parameters
from ..tensors import Torch, digest
from ..trace import Writer, loss, number
from ..updates import Updates
from .data import NEXT_TOKENS, Batch, targets
from .protocol import opening
from .told import Told

TENSORS = Torch()
GroupOf = Callable[[str], str]
# Losses by name: the sum, and the weight that divides it to give the mean.
Losses = Mapping[str, Tuple[Any, float]]


class RunTrace:
    """The trace of one run: `attach` once the optimizer exists, then one call per event."""

    def __init__(
        self,
        plan: Dict[str, Any],
        writer: Writer,
        description: Dict[str, Any],
        contract: Dict[str, Any],
        device: str = "cpu",
    ) -> None:
        self._plan, self._writer = plan, writer
        self._counted = contract.get("targets", NEXT_TOKENS)
        self._updates: Optional[Updates] = None
        self._memory = Memory(writer, TENSORS)
        self.epoch = self.index = 0
        # Supervised positions in the open window.
        self.targets = 0
        self._open = False
        # The first line must be written before a framework has placed the model.
        opening(writer, plan, description["trainer"], contract, device)

    def attach(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, group_of: GroupOf) -> None:
        """Listens to the gradients of `model` and the steps of `optimizer`, in place of those before: a load may have made
        other objects."""
        before = self._updates
        if before is not None:
            before.release()

        def about(name: str, parameter: Any) -> Dict[str, Any]:
            moments = _moments(optimizer, parameter)
            return {"group": group_of(name), **({} if moments is None else {"moments": moments})}

        self._model = model
        self._parameters = Parameters(model, optimizer, TENSORS, about)
        self._updates = Updates(self._parameters, optimizer, TENSORS, self._writer, self)
        self._updates.watch()
        if before is not None:
            self._updates.step = before.step
            self._updates.gradients.take_up(before.gradients.held())

    @property
    def step(self) -> int:
        """Updates done; 0 before `attach`."""
        return self._updates.step if self._updates is not None else 0

    def resume(self, step: int, epoch: int, index: int) -> None:
        """Continues at the place of a checkpoint."""
        self._updates.step, self.epoch, self.index = step, epoch, index

    def resume_window(self, micro_batches: int, targets: int) -> None:
        """Continues a window whose gradients came from a checkpoint, with that many micro-batches and targets in them."""
        self._updates.gradients.take_up(micro_batches)
        self.targets, self._open = targets, micro_batches > 0

    def window(self) -> int:
        """Micro-batches in the open window."""
        # The gradients may stay in place after an update, until the trainer clears them: they are no open window.
        return (self._updates.gradients.held() or 0) if self._open else 0

    def epoch_edge(self, epoch: int, edge: str) -> None:
        """The `begin` or `end` of an epoch."""
        self._writer.event("epoch", epoch=epoch, edge=edge)
        self.memory("epoch")

    def micro_batch(self, epoch: int, index: int, batch: Batch, losses: Sequence[dict], **more: Any) -> None:
        """One forward and backward. `losses` are sums with their weights; `more` are further fields of the event."""
        self.epoch, self.index, self._open = epoch, index + 1, True
        seen = self._seen(batch)
        self._updates.next_micro_batch()
        place = {"epoch": epoch, "index": index, "samples": batch["ids"].tolist()}
        self._writer.event("micro_batch", **place, **seen, losses=list(losses), **more)

    def around(self, epoch: int, index: int, batch: Batch, step: Callable[[], Losses]) -> None:
        """One micro-batch by `step`, which also makes the update that the micro-batch completes. Its losses are known when
        all of it is done, and its event comes before that of the update."""
        self.epoch, self.index = epoch, index + 1
        seen = self._seen(batch)
        before = self.step
        self._writer.hold()
        try:
            with self.telling(index, batch) as told, backward_values() as backward:
                losses = step()
            self._updates.next_micro_batch()
        finally:
            later = self._writer.release()
        self._open = self.step == before
        place = {"epoch": epoch, "index": index, "samples": batch["ids"].tolist()}
        entries = [loss(name, TENSORS.number(total), weight) for name, (total, weight) in losses.items()]
        self._writer.event("micro_batch", **place, **seen, losses=entries, **told.fields(), **self._ran_on(backward))
        self._writer.write_held(later)

    def _seen(self, batch: Batch) -> Dict[str, int]:
        """The sizes of a batch. Its targets are counted by the trainer's convention, and belong to the open window."""
        seen = describe(batch, TENSORS)
        if self._counted != NEXT_TOKENS:
            seen["targets"] = targets(batch, self._counted)
        self.targets += seen.get("targets", 0)
        return seen

    def _ran_on(self, values: List[torch.Tensor]) -> Dict[str, Any]:
        """What the backward passes of a micro-batch ran on, where ranks train together."""
        together = self._plan["train"].get("together", False) and values
        return {"backward": number(sum(float(value) for value in values))} if together else {}

    def telling(self, index: int, batch: Batch) -> Told:
        """Sees what is inside micro-batch `index` while its step runs: `more` of its event."""
        return Told(self._plan, index, batch, self._model)

    def drop_window(self) -> None:
        """The trainer throws the open window away, as far as its gradients are cleared."""
        if all(TENSORS.is_clear(it.grad) for it in self._parameters.named.values()):
            self.targets, self._open = 0, False

    def state(self, at: str, schedule_step: int, window: int, parts: Optional[Mapping[str, Any]] = None) -> None:
        """Everything that the next update depends on; `parts` are states of other objects than parameters, by name."""
        self._writer.event(
            "state",
            at=at,
            step=self.step,
            tensors=self._parameters.state(self._updates.norms if at == "update" else {}),
            rng=TENSORS.rng(),
            schedule_step=schedule_step,
            cursor={"epoch": self.epoch, "micro_batches": self.index},
            window=window,
            parts={name: TENSORS.digest_of_all(part) for name, part in {**(parts or {}), **self._of_batches()}.items()} or None,
        )

    def _of_batches(self) -> Dict[str, Any]:
        """The statistics that layers take of their batches: with them, the rows of a batch are not independent."""
        norms = {name: dict(it.named_buffers()) for name, it in self._model.named_modules() if isinstance(it, _BatchNorm)}
        return {"batch-statistics": norms} if norms else {}

    def state_is_due(self) -> bool:
        """Whether the plan asks for a state after this update."""
        every = self._plan.get("state_every")
        return bool(every) and self.step % every == 0

    def evaluation(self, evaluate: Callable[[], tuple]) -> None:
        """One evaluation. `evaluate` returns the sample ids, the losses (sums with weights), and the reported metric."""
        self.evaluation_begins()
        self.evaluation_ends(*evaluate())

    def evaluation_begins(self) -> None:
        """Before the evaluation touches the model or the random stream."""
        self._evaluation = Evaluation(self._parameters, TENSORS)

    def evaluation_ends(self, samples: Optional[List[int]], losses: List[dict], metric: float) -> None:
        """After the evaluation."""
        self._evaluation.forward_ends()
        self._evaluation.write(self._writer, self.step, samples=samples, losses=losses, metric=number(metric))
        self.memory("evaluation")

    def checkpoint(self, edge: str, path: str) -> None:
        """A checkpoint was `saved`, `loaded` or `deleted`."""
        place = {"step": self.step, "epoch": self.epoch, "micro_batches": self.index}
        self._writer.event("checkpoint", edge=edge, path=path, **place)
        self.memory("checkpoint")

    def probe(self, name: str, at: str, rows: List[dict], width: int, gradients: Optional[List[dict]]) -> None:
        """A forward outside training, perhaps with a backward. The caller restores the gradients from before."""
        self._updates.gradients.disregard()
        self._writer.event("probe", name=name, at=at, rows=rows, width=width, gradients=gradients)

    def wants_memory(self, at: str) -> bool:
        """Whether the plan asks for memory at this boundary."""
        return at in self._plan.get("sample_memory", [])

    def memory(self, at: str, **measured: int) -> None:
        """Memory, if the plan asks for it; `measured` are lanes that the caller read itself."""
        if self.wants_memory(at):
            self._memory.write(at, self.step, count=at == "update", **measured)

    def end(self, reason: str) -> None:
        """The last event of a run that did not fail."""
        self._writer.event("end", reason=reason)

    # Calls from the optimizer (updates.Listener).

    def update_begins(self) -> Dict[str, Any]:
        return {"targets": self.targets}

    def update_ends(self, applied: bool, checksums: Optional[Mapping[str, str]]) -> None:
        self.targets, self._open = 0, False
        self.memory("update")


@contextmanager
def backward_values() -> Iterator[List[torch.Tensor]]:
    """The scalars that backward passes run on meanwhile."""
    seen: List[torch.Tensor] = []
    patches = Patches()

    def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
        def backward(tensors: Any, *args: Any, **named: Any) -> Any:
            given = [tensors] if torch.is_tensor(tensors) else list(tensors)
            seen.extend(it.detach() for it in given if it.numel() == 1)
            return original(tensors, *args, **named)

        return backward

    patches.wrap(torch.autograd, "backward", wrapped)
    try:
        yield seen
    finally:
        patches.release()


def summed(losses: Mapping[str, Any], weights: Mapping[str, int]) -> List[dict]:
    """The `losses` of an event from sums that are still tensors."""
    return [loss(name, float(value.detach()), weights[name]) for name, value in losses.items()]


def _moments(optimizer: torch.optim.Optimizer, parameter: torch.nn.Parameter) -> Optional[str]:
    """A digest of what the optimizer keeps for a parameter; None before its first update."""
    kept = optimizer.state.get(parameter) or {}
    # By name: a state that was loaded may have another order.
    values = [kept[name] for name in sorted(kept) if torch.is_tensor(kept[name])]
    return digest(*(TENSORS.bytes(value) for value in values)) if kept else None
