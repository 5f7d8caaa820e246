"""Watches the gradients of a model's parameters while backward passes accumulate into them.

An optimizer's hooks cannot see two things: the norm before clipping, and how many micro-batches the gradients hold. The
count is read from the gradients themselves: a backward pass that finds all of them clear starts a new window, however the
loop cleared them; a backward pass that finds values adds a micro-batch to the window.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Set


class Gradients:
    """The gradients of parameters by name: their norms, and the micro-batches that they hold."""

    def __init__(
        self, parameters: Dict[str, Any], optimizer: Any, tensors: Any, arrives: Callable[[str, Any], None], arrived: Callable[[str, Any], None]
    ) -> None:
        """`arrives` is called with what a backward pass is about to add to a gradient, and `arrived` with the gradient that it has
        added to; both with its name."""
        self._parameters, self._optimizer, self._tensors = parameters, optimizer, tensors
        self._tell_arrival, self._tell = arrives, arrived
        self._norms: Dict[str, Any] = {}
        self._fired = False
        self._clear = True
        self._found_clear: Dict[str, bool] = {}
        self._added: Set[str] = set()
        self._held: Optional[int] = None
        # Whether the open window's gradients are all 0: then they do not show whether somebody cleared them.
        self._left_nothing = False
        self._watched: Set[str] = set()
        self._handles: List[Any] = []
        self._watch([name for name, it in parameters.items() if it.requires_grad])

    def release(self) -> None:
        """Takes the hooks off."""
        while self._handles:
            self._handles.pop().remove()

    def next_micro_batch(self) -> bool:
        """Counts all backward passes since the last call as one micro-batch. Returns whether there was a backward pass."""
        fired = self._fired
        if fired:
            goes_on = self._held is not None and (self._left_nothing or not self._clear)
            self._held = (self._held or 0) + 1 if goes_on else 1
            self._left_nothing = all(self._tensors.is_clear(self._parameters[name].grad) for name in self._watched)
        self.disregard()
        return fired

    def disregard(self) -> None:
        """Forgets the backward passes since the last micro-batch: a probe removes its gradients again."""
        self._fired, self._clear = False, True
        self._found_clear.clear()
        self._added.clear()

    def held(self) -> Optional[int]:
        """Micro-batches that the gradients hold; None before the first backward pass."""
        return self._held

    def take_up(self, held: Optional[int]) -> None:
        """Continues a window whose gradients came from a checkpoint."""
        self._held = held

    def norms(self) -> Dict[str, float]:
        """The norm of each gradient after the last backward pass, before clipping; empty if a gradient was not watched."""
        # A parameter that was frozen at the start has no hooks yet. Its gradient was missed this once.
        missed = [name for name, it in self._parameters.items() if it.grad is not None and name not in self._watched]
        if missed:
            self._watch(missed)
            return {}
        return {name: self._tensors.number(norm) for name, norm in self._norms.items()}

    def applied(self) -> None:
        """An update has used the gradients: their norms must not appear in the next update again."""
        self._norms.clear()
        self._left_nothing = False

    def measure(self) -> None:
        """Takes the gradients as they are now: what follows is a clip, and they may have been unscaled or divided before."""
        for name, it in self._parameters.items():
            if it.grad is not None and name in self._watched:
                self._norms[name] = self._tensors.norm(it.grad)
                self._tell(name, it.grad)

    def _watch(self, names: List[str]) -> None:
        held = {id(it) for group in self._optimizer.param_groups for it in group["params"]}
        for name in names:
            parameter = self._parameters[name]
            self._watched.add(name)
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._accumulated(name)))
            # `optimizer.zero_grad()` does not clear the gradient of a parameter that the optimizer does not hold: such a
            # gradient must not decide whether the window is new.
            if id(parameter) in held:
                self._handles.append(parameter.register_hook(self._arrives(name)))

    def _arrives(self, name: str) -> Callable[[Any], None]:
        def hook(gradient: Any) -> None:
            self._tell_arrival(name, gradient)
            # This hook runs before the gradient is added: a value in `.grad` is from an earlier backward pass. One parameter
            # with a value settles the question, and spares the others the look.
            if self._clear and name not in self._added:
                self._found_clear[name] = self._tensors.is_clear(self._parameters[name].grad)

        return hook

    def _accumulated(self, name: str) -> Callable[[Any], None]:
        def hook(parameter: Any) -> None:
            self._fired = True
            # Once per micro-batch: a second backward pass finds what the first one added. And here, not on arrival:
            # `torch.autograd.grad` computes gradients that are never added.
            if name not in self._added:
                self._added.add(name)
                self._clear = self._clear and self._found_clear.pop(name, True)
            self._norms[name] = self._tensors.norm(parameter.grad)
            self._tell(name, parameter.grad)

        return hook
