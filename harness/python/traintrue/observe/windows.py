"""The accumulation window of each optimizer: the micro-batches whose gradients its parameters hold.

What the gradients hold is read from the gradients themselves, before each backward pass: if all of them are clear, the loop
has cleared them, however it did so.
"""

from __future__ import annotations

import math
import weakref
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Tuple

from ..trace import number

# The gradient of a parameter before a backward pass: its identity, and how often its values were changed in place.
Mark = Optional[Tuple[int, int]]


# After so many micro-batches an optimizer that has not stepped is looked at.
ENOUGH = 3


class MicroBatch:
    """One or more forwards and the backward passes that follow them."""

    def __init__(self, seen: Dict[str, Any], losses: List[Tuple[Any, float]]) -> None:
        # Fields of its event, and its losses, still tensors.
        self.seen, self.losses = seen, losses
        # Epoch and index, once a backward pass has reached an optimizer.
        self.place: Optional[Dict[str, int]] = None
        # The values that `backward()` was called on, still tensors, each with the loss scale of its moment.
        self.roots: List[Tuple[Any, float]] = []
        self.reached: List[int] = []
        self.finite = True
        # Whether a clip has seen that gradients are not finite with it.
        self.lost = False
        # Whether its backward pass left gradients of 0: nobody has cleared them.
        self.empty = False
        # What it added to each parameter's gradient at a few places, by identity, where ranks are compared.
        self.added: Dict[int, List[float]] = {}
        # Whether an optimizer has stepped with its gradients, and how many windows hold them.
        self.used, self.holders = False, 0


class Window:
    """The window of one optimizer."""

    def __init__(self, number: int, optimizer: Any, tensors: Any) -> None:
        self.number, self._tensors = number, tensors
        # Weakly: a script that drops its optimizer must get its memory back.
        self._optimizer = weakref.ref(optimizer)
        self.kind = type(optimizer).__name__
        # The identities of its parameters, which may outlive it.
        self.held = {id(it) for it in self.parameters()}
        self.members: List[MicroBatch] = []
        self.stepped = False
        # Whether `step` was called, also from inside of another optimizer's; and whether the first micro-batches left
        # gradients.
        self.called = self._received = False
        # Whether a step left a state, such as moments.
        self.has_state = False
        self.remade = False
        # The gradients at a few places after the last backward pass, by the parameter's identity, where ranks are compared.
        self.averaged: Dict[int, List[float]] = {}
        # The same when the step began.
        self.given: Dict[int, List[float]] = {}
        # Micro-batches of the longest window.
        self._longest = 0
        self._begin()

    def _begin(self) -> None:
        self._micro_batches = self._unused = self._evaluations = 0
        self._began: Optional[int] = None
        self.clips: List[Dict[str, Any]] = []
        self.seeds: List[int] = []
        # The seed that was set last, if an evaluation's forward followed it.
        self._evaluated_at: Optional[int] = None
        self.loaded = self.unscaled = False
        self.parameters_changed: Optional[bool] = None
        self.swapped: Optional[bool] = None
        self.after_backward: Optional[float] = None

    def parameters(self) -> List[Any]:
        """The parameters that the optimizer holds now."""
        optimizer = self._optimizer()
        return [] if optimizer is None else [it for group in optimizer.param_groups for it in group["params"]]

    def optimizer(self) -> Any:
        """The optimizer; None when the script has dropped it."""
        return self._optimizer()

    def gradients(self) -> List[Any]:
        """The gradients that the optimizer's next step uses."""
        return [it.grad for it in self.parameters() if it.grad is not None]

    def has_hooks(self, ours: Set[int]) -> bool:
        """Whether hooks, beside `ours`, may change the gradients between a backward pass and its end."""
        hooks = ("_backward_hooks", "_post_accumulate_grad_hooks")
        return any(set(getattr(it, name, None) or ()) - ours for it in self.parameters() for name in hooks)

    def _keeps_state(self) -> bool:
        optimizer = self._optimizer()
        kept = [] if optimizer is None else optimizer.state.values()
        # Without momentum, SGD has an entry without a value for each parameter. Some keep one value for all parameters.
        return any(value is not None for held in kept for value in (held.values() if isinstance(held, Mapping) else [held]))

    def marks(self) -> List[Mark]:
        """What `reached` compares with."""
        return [None if it.grad is None else (id(it.grad), it.grad._version) for it in self.parameters()]

    def reached(self, marks: List[Mark]) -> bool:
        """Whether a backward pass has added to a gradient since `marks`."""
        return any(mark != before for mark, before in zip(self.marks(), marks))

    def is_clear(self) -> bool:
        """Whether no gradient has a value."""
        # The smallest first: one value settles the question, and a large embedding takes long to look through.
        return all(self._tensors.is_clear(it) for it in sorted(self.gradients(), key=lambda it: it.numel()))

    def settle(self) -> None:
        """Notices that the loop has cleared the gradients."""
        # Gradients of 0 do not show whether they were cleared: the first step that uses them ends their window.
        unseen = all(it.empty and not it.used for it in self.members)
        if not self.members or unseen or not self.is_clear():
            return
        for it in self.members:
            it.holders -= 1
            # Another optimizer may have used these gradients: a generator's backward pass leaves some in its discriminator.
            self._unused += not it.used and it.holders == 0 and it.finite and not it.empty
        if not any(it.used for it in self.members):
            # What clipped gradients that no step has used is not of the next step's.
            self.clips = [call for call in self.clips if call["used"]]
        self.members = []

    def add(self, micro_batch: MicroBatch) -> None:
        """A backward pass of this micro-batch has reached the parameters."""
        if self.members and self.members[-1] is micro_batch:
            return
        self.members.append(micro_batch)
        micro_batch.holders += 1
        micro_batch.reached.append(self.number)
        self._micro_batches += 1
        self.held = {id(it) for it in self.parameters()}
        if self._began is not None:
            self._began += 1
        if not self.called and self._micro_batches == ENOUGH:
            self._received = not all(map(self._tensors.is_clear, self.gradients()))

    def idle(self, others: Iterable["Window"]) -> bool:
        """Whether the optimizer never stepped, though it has gradients that no other optimizer can have used."""
        return self._received and not self.called and not any(it.called and it.held & self.held for it in others)

    def stuck(self) -> bool:
        """Whether gradients that are not finite were left in place, and more were added to them than in any window before."""
        lost = next((at for at, it in enumerate(self.members) if not it.finite or it.lost), None)
        return lost is not None and len(self.members) - lost > max(ENOUGH, 2 * self._longest)

    def epoch_begins(self) -> None:
        """The next micro-batch is the first of an epoch."""
        self._began = 0

    def seeded(self, seed: int) -> None:
        """The global random generator has been seeded."""
        self.seeds.append(seed)
        self._evaluated_at = None

    def restored(self) -> None:
        """The global random state has been put back."""
        self.seeds.clear()
        self._evaluated_at = None

    def evaluates(self) -> None:
        """A forward of an evaluation."""
        self._evaluated_at = self.seeds[-1] if self.seeds else None

    def evaluated(self) -> None:
        """An evaluation is over."""
        self._evaluations += 1

    def clipped(self, limit: float, norm: Optional[Any], given: List[Any], **how: Any) -> None:
        """The loop has clipped these gradients: all of the optimizer's, or some."""
        asked = {id(it) for it in given}
        if not any(id(it) in asked for it in self.parameters()):
            return
        mine = [it for it in self.parameters() if it.grad is not None]
        used = bool(self.members) and all(it.used for it in self.members)
        whole = all(id(it) in asked for it in mine)
        if norm is not None and self.members and not math.isfinite(self._tensors.number(norm)):
            self.members[-1].lost = True
        self.clips.append(
            {"limit": limit, "norm": norm, "held": len(self.members), "used": used, "whole": whole, **how}
        )

    def norm_before(self, at_the_step: Optional[float]) -> Optional[float]:
        """The norm before clipping: what the first call of the window saw. Unknown where the gradients were clipped in parts."""
        calls = [it for it in self.clips if it["held"] and not it["used"]]
        if not calls:
            return at_the_step
        norm = calls[0]["norm"]
        told = calls[0]["whole"] and calls[0]["norm_type"] == 2.0 and norm is not None
        return self._tensors.number(norm) if told else None

    def take(
        self,
        *,
        epoch_over: bool,
        closure: bool,
        schedules: List[Dict[str, Any]],
        declared: Optional[List[Any]],
        before: Optional[float],
        averaged: Optional[int],
    ) -> Dict[str, Any]:
        """The `since` field of an update, and the beginning of the next window. The gradients stay until they are cleared."""
        carried = self._began is not None and self._began < self._micro_batches
        since = {
            "micro_batches": self._micro_batches,
            # A closure may be evaluated more than once a step, and clears the gradients each time.
            "unused": 0 if closure else self._unused,
            "began": self._began,
            "epoch_ended": epoch_over or carried,
            "clips": [self._call(it) for it in self.clips],
            "rescaled": self._rescaled(before),
            "schedules": schedules,
            "declared": declared,
            "seeds": self.seeds,
            "evaluation_seed": self._evaluated_at,
            "evaluations": self._evaluations,
            "parameters_changed": self.parameters_changed,
            "swapped": self.swapped,
            "loaded": self.loaded,
            "remade": self.remade and not self.stepped and not self.loaded,
            "closure": closure,
            "averaged": averaged,
        }
        self._longest = max(self._longest, len(self.members))
        for it in self.members:
            it.used = True
        self.stepped = True
        self.has_state = self.has_state or self._keeps_state()
        self._begin()
        return {name: value for name, value in since.items() if value is not None}

    def _rescaled(self, before: Optional[float]) -> Optional[float]:
        after = self.after_backward
        if after is None or before is None or not after or not math.isfinite(after):
            return None
        return number(before / after)

    def _call(self, it: Dict[str, Any]) -> Dict[str, Any]:
        norm = None if it["norm"] is None else number(self._tensors.number(it["norm"]))
        told = {**it, "limit": number(it["limit"]), "norm": norm, "norm_type": number(it["norm_type"])}
        return {name: value for name, value in told.items() if value is not None}
