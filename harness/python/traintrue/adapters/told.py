"""Writes the trace of a trainer that was told a plan, from the trainer's real model, optimizer and gradients."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

import torch

from ..gradients import Gradients
from ..memory import process_lanes
from ..tensors import Torch, digest
from ..trace import SCHEMA, Writer, loss, number
from .data import Batch, targets

TENSORS = Torch()
SKETCHES = 2
GroupOf = Callable[[str], str]


def sketch(tensor: torch.Tensor) -> List[Any]:
    """A few seeded signed sums: near where the tensors are near, whatever their size."""
    flat = tensor.detach().flatten().double()
    generator = torch.Generator().manual_seed(flat.numel())
    signs = torch.randint(0, 2, (SKETCHES, flat.numel()), generator=generator).double() * 2 - 1
    return [number(value) for value in (signs @ flat).tolist()]


class Told:
    """The trace of one run."""

    def __init__(self, plan: Dict[str, Any], writer: Writer, description: Dict[str, Any], contract: Dict[str, Any]):
        self._plan, self._writer = plan, writer
        self.step = self.epoch = self.index = 0
        self.targets, self._closed = 0, True
        self._norms: Dict[str, float] = {}
        self._before: Dict[str, str] = {}
        header = {"schema": SCHEMA, "trainer": description["trainer"], "device": "cpu"}
        writer.event("run", **header, scenario=plan["scenario"], run=plan["run"], plan=plan, contract=contract)

    def attach(self, model: torch.nn.Module, optimizer: torch.optim.Optimizer, group_of: GroupOf) -> None:
        """Listens to the gradients of `model` and the steps of `optimizer`."""
        self._model, self._optimizer, self._group_of = model, optimizer, group_of
        self._parameters = dict(model.named_parameters())
        trained = {name: it for name, it in self._parameters.items() if it.requires_grad}
        self._gradients = Gradients(trained, optimizer, TENSORS)
        optimizer.register_step_post_hook(lambda *_: self._updated())

    def edge(self, epoch: int, edge: str) -> None:
        """An edge of an epoch."""
        self._writer.event("epoch", epoch=epoch, edge=edge)
        self.memory("epoch")

    def micro_batch(self, epoch: int, index: int, batch: Batch, losses: Sequence[dict], **more: Any) -> None:
        """A forward and backward; `losses` are sums with their weights."""
        self.epoch, self.index, self._closed = epoch, index + 1, False
        self.targets += targets(batch)
        self._gradients.next_micro_batch()
        self._writer.event(
            "micro_batch",
            epoch=epoch,
            index=index,
            samples=batch["ids"].tolist(),
            rows=batch["input_ids"].shape[0],
            width=batch["input_ids"].shape[1],
            tokens=int(batch["attention_mask"].sum()),
            targets=targets(batch),
            losses=list(losses),
            **more,
        )

    def state(self, at: str, schedule_step: int, window: int) -> None:
        """Everything that the next update depends on."""
        held = {id(it) for group in self._optimizer.param_groups for it in group["params"]}
        tensors = []
        for name, it in self._parameters.items():
            tensor = {
                "name": name,
                "group": self._group_of(name),
                "shape": list(it.shape),
                "dtype": TENSORS.dtype(it),
                "trainable": it.requires_grad,
                "optimized": id(it) in held and it.requires_grad,
                "digest": digest(TENSORS.bytes(it)),
                "sketch": sketch(it),
            }
            moments = self._optimizer.state.get(it)
            if moments:
                kept = [moments[key] for key in sorted(moments) if torch.is_tensor(moments[key])]
                tensor["moments"] = digest(*(TENSORS.bytes(value) for value in kept))
            if name in self._norms and at == "update":
                tensor["grad_norm"] = number(self._norms[name])
            tensors.append(tensor)
        self._writer.event(
            "state",
            at=at,
            step=self.step,
            tensors=tensors,
            rng=TENSORS.rng(),
            schedule_step=schedule_step,
            cursor={"epoch": self.epoch, "micro_batches": self.index},
            window=window,
        )

    def take_up(self, window: int, held: int) -> None:
        """Goes on inside a window of so many micro-batches and targets: its gradients were loaded."""
        self._gradients.take_up(window)
        self.targets = held
        self._closed = window == 0

    def held(self) -> int:
        """Micro-batches in the open window."""
        return 0 if self._closed else self._gradients.held() or 0

    def state_is_due(self) -> bool:
        """Whether the plan asks for a state after this update."""
        every = self._plan.get("state_every")
        return bool(every) and self.step % every == 0

    def evaluation(self, evaluate: Callable[[], tuple]) -> None:
        """An evaluation; `evaluate` gives the ids, the summed losses with their weights, and the figure reported."""
        self.evaluation_begins()
        self.evaluation_ends(*evaluate())

    def evaluation_begins(self) -> None:
        """What an evaluation finds."""
        self._before = {"digest_before": self._trained(), "rng_before": TENSORS.rng()}

    def evaluation_ends(self, samples: List[int], losses: List[dict], metric: float) -> None:
        """What it saw, what it reports, and what it leaves."""
        after = {"digest_after": self._trained(), "rng_after": TENSORS.rng()}
        seen = {"samples": samples, "losses": losses, "metric": number(metric)}
        self._writer.event("evaluation", step=self.step, **seen, **self._before, **after)
        self.memory("evaluation")

    def checkpoint(self, edge: str, path: str) -> None:
        """A checkpoint was saved, loaded or deleted."""
        place = {"step": self.step, "epoch": self.epoch, "micro_batches": self.index}
        self._writer.event("checkpoint", edge=edge, path=path, **place)
        self.memory("checkpoint")

    def probe(self, name: str, at: str, rows: List[dict], width: int, gradients: Optional[List[dict]]) -> None:
        """A forward, or a backward too, outside training: the gradients are those from before again when it is done."""
        self._gradients.disregard()
        self._writer.event("probe", name=name, at=at, rows=rows, width=width, gradients=gradients)

    def samples_memory(self, at: str) -> bool:
        """Whether the plan asks for memory at this boundary."""
        return at in self._plan.get("sample_memory", [])

    def memory(self, at: str, **measured: int) -> None:
        """Memory, where the plan asks for it; `measured` are lanes beside the process's own."""
        if self.samples_memory(at):
            lanes = {**process_lanes(), **TENSORS.device_lanes(), **measured}
            self._writer.event("memory", at=at, step=self.step, lanes=lanes)

    def end(self, reason: str, message: Optional[str] = None) -> None:
        """The last line."""
        self._writer.event("end", reason=reason, message=message)

    def _updated(self) -> None:
        # Not before the step: a framework may make forward and backward within it, as a closure. A framework may also step
        # before it says that its micro-batch is done.
        self._gradients.next_micro_batch()
        self._norms = self._gradients.norms()
        given = [it.grad for it in self._parameters.values() if it.grad is not None]
        self.step += 1
        self._writer.event(
            "update",
            step=self.step,
            micro_batches=self._gradients.held(),
            targets=self.targets,
            lr=[number(float(group["lr"])) for group in self._optimizer.param_groups if group["params"]],
            grad_norm=number(math.sqrt(sum(norm * norm for norm in self._norms.values()))),
            clipped_norm=number(math.sqrt(sum(float(TENSORS.norm(it)) ** 2 for it in given))),
            applied=True,
            digest=self._trained(),
        )
        self.targets, self._closed = 0, True
        self._gradients.applied()
        self.memory("update")

    def _trained(self) -> str:
        trained = (it for it in self._parameters.values() if it.requires_grad)
        return digest(*(TENSORS.bytes(it) for it in trained))


def summed(losses: Mapping[str, Any], weights: Mapping[str, int]) -> List[dict]:
    """Losses as a trace has them."""
    return [loss(name, float(value.detach()), weights[name]) for name, value in losses.items()]
