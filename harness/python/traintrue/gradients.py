"""Watches the gradients of a model's parameters as backward passes add to them.

Two things are read off that no hook of an optimizer can see: the norm before anybody clips, and how many micro-batches
the gradients hold. The second is counted from the gradients themselves: a backward pass that finds them clear begins
anew, whoever cleared them and how; one that finds them full adds to what is there.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional

# The smallest parameters of the optimizer tell whether gradients were cleared: looking at all would cost a pass over the
# model, and what no optimizer holds is cleared by none.
SENTINELS = 3


class Gradients:
    """The gradients of some parameters by name, and what they hold."""

    def __init__(self, parameters: Dict[str, Any], optimizer: Any, tensors: Any) -> None:
        self._tensors = tensors
        self._norms: Dict[str, Any] = {}
        self._fired = False
        self._clear = True
        self._held: Optional[int] = None
        self._handles: List[Any] = []
        for name, parameter in parameters.items():
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._accumulated(name)))
        held = {id(it) for group in optimizer.param_groups for it in group["params"]}
        cleared = [it for it in parameters.values() if id(it) in held]
        for parameter in sorted(cleared, key=lambda it: it.numel())[:SENTINELS]:
            self._handles.append(parameter.register_hook(self._arrives(parameter)))

    def release(self) -> None:
        """Takes the hooks off."""
        while self._handles:
            self._handles.pop().remove()

    def next_micro_batch(self) -> None:
        """What the backward passes since the last call added is one micro-batch."""
        if self._fired:
            self._held = 1 if self._clear or self._held is None else self._held + 1
        self._fired, self._clear = False, True

    def held(self) -> Optional[int]:
        """Micro-batches whose gradients are there; not known before the first backward pass."""
        return self._held

    def take_up(self, held: int) -> None:
        """Goes on with gradients that were loaded."""
        self._held = held

    def norms(self) -> Dict[str, float]:
        """The norm of each gradient as the last backward pass left it, before clipping."""
        return {name: self._tensors.number(norm) for name, norm in self._norms.items()}

    def applied(self) -> None:
        """An update has used the gradients: a parameter without a new one has none to show."""
        self._norms.clear()

    def _accumulated(self, name: str) -> Callable[[Any], None]:
        def hook(parameter: Any) -> None:
            self._norms[name] = self._tensors.norm(parameter.grad)

        return hook

    def _arrives(self, parameter: Any) -> Callable[[Any], None]:
        def hook(_gradient: Any) -> None:
            # Before it is added: what is there is from an earlier backward pass.
            if not self._fired or self._clear:
                self._clear = self._tensors.is_clear(parameter.grad)
            self._fired = True

        return hook
