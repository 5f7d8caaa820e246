"""Watches the gradients of a model's parameters as backward passes add to them.

Two things are read off that no hook of an optimizer can see: the norm before anybody clips, and how many micro-batches
the gradients hold. The second is counted from the gradients themselves: a backward pass that finds them clear begins
anew, whoever cleared them and how; one that finds them full adds to what is there.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Optional, Set


class Gradients:
    """The gradients of some parameters by name, and what they hold."""

    def __init__(self, parameters: Dict[str, Any], optimizer: Any, tensors: Any) -> None:
        self._parameters, self._optimizer, self._tensors = parameters, optimizer, tensors
        self._norms: Dict[str, Any] = {}
        self._fired = False
        self._clear = True
        self._found_clear: Dict[str, bool] = {}
        self._added: Set[str] = set()
        self._held: Optional[int] = None
        self._watched: Set[str] = set()
        self._handles: List[Any] = []
        self._watch([name for name, it in parameters.items() if it.requires_grad])

    def release(self) -> None:
        """Takes the hooks off."""
        while self._handles:
            self._handles.pop().remove()

    def next_micro_batch(self) -> bool:
        """What the backward passes since the last call added is one micro-batch; whether there was any."""
        fired = self._fired
        if fired:
            self._held = 1 if self._clear or self._held is None else self._held + 1
        self.disregard()
        return fired

    def disregard(self) -> None:
        """What was added since the last micro-batch has been taken away again, as a probe's gradients are."""
        self._fired, self._clear = False, True
        self._found_clear.clear()
        self._added.clear()

    def held(self) -> Optional[int]:
        """Micro-batches whose gradients are there; not known before the first backward pass."""
        return self._held

    def take_up(self, held: int) -> None:
        """Goes on with gradients that were loaded."""
        self._held = held

    def norms(self) -> Dict[str, float]:
        """The norm of each gradient as the last backward pass left it, before clipping; none where one was missed."""
        # What was frozen at first has been watched by nobody.
        missed = [name for name, it in self._parameters.items() if it.grad is not None and name not in self._watched]
        if missed:
            self._watch(missed)
            return {}
        return {name: self._tensors.number(norm) for name, norm in self._norms.items()}

    def applied(self) -> None:
        """An update has used the gradients: a parameter without a new one has none to show."""
        self._norms.clear()

    def _watch(self, names: List[str]) -> None:
        held = {id(it) for group in self._optimizer.param_groups for it in group["params"]}
        for name in names:
            parameter = self._parameters[name]
            self._watched.add(name)
            self._handles.append(parameter.register_post_accumulate_grad_hook(self._accumulated(name)))
            # What no optimizer holds is cleared by none.
            if id(parameter) in held:
                self._handles.append(parameter.register_hook(self._arrives(name)))

    def _arrives(self, name: str) -> Callable[[Any], None]:
        def hook(_gradient: Any) -> None:
            # Before it is added: what is there is from an earlier backward pass. Where one tensor holds something no other
            # need be asked.
            if self._clear and name not in self._added:
                self._found_clear[name] = self._tensors.is_clear(self._parameters[name].grad)

        return hook

    def _accumulated(self, name: str) -> Callable[[Any], None]:
        def hook(parameter: Any) -> None:
            self._fired = True
            # Once a micro-batch: a second backward pass finds what the first has added. And only now: a gradient may arrive
            # that nobody adds, as `torch.autograd.grad` asks for.
            if name not in self._added:
                self._added.add(name)
                self._clear = self._clear and self._found_clear.pop(name, True)
            self._norms[name] = self._tensors.norm(parameter.grad)

        return hook
