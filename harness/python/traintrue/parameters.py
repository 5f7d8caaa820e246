"""The parameters of a model: their digest, and one `state` entry per tensor."""

from __future__ import annotations

from typing import Any, Callable, Dict, List, Mapping, Optional

from .tensors import digest
from .trace import number

# From a parameter's name and the parameter: its `group`, and further fields of its state entry.
About = Callable[[str, Any], Dict[str, Any]]


# Whether a parameter trains.
Trains = Callable[[Any], bool]


def _requires_grad(parameter: Any) -> bool:
    return bool(parameter.requires_grad)


class Parameters:
    """All parameters of a model by name. Says which of them train, and which of them the optimizer holds."""

    def __init__(self, model: Any, optimizer: Any, tensors: Any, about: About, trains: Trains = _requires_grad) -> None:
        self._model, self._optimizer, self._tensors, self._about = model, optimizer, tensors, about
        self._trains = trains
        self.named: Dict[str, Any] = dict(model.named_parameters())
        # Fixed at the start. PEFT's `disable_adapter` freezes the adapters for a while; a digest over the parameters that
        # require gradients *now* would then change although no parameter did.
        self._trained = [name for name, it in self.named.items() if it.requires_grad]

    def buffers(self) -> Dict[str, Any]:
        """The buffers of the model, by name: what a checkpoint must bring back beside the parameters."""
        return dict(self._model.named_buffers())

    def checksums(self) -> Dict[str, str]:
        """A checksum per parameter."""
        return {name: self._tensors.checksum(it) for name, it in self.named.items()}

    def digest(self, checksums: Optional[Mapping[str, str]] = None) -> str:
        """One digest over every parameter that trained at the start, from `checksums` where the caller has them."""
        checksums = checksums or self.checksums()
        return digest(*(checksums[name].encode() for name in self._trained))

    def state(self, norms: Mapping[str, float], checksums: Optional[Mapping[str, str]] = None) -> List[Dict[str, Any]]:
        """The `tensors` of a state event; `norms` are gradient norms by name, empty where there was no update."""
        checksums = checksums or self.checksums()
        held = {id(it) for group in self._optimizer.param_groups for it in group["params"]}
        return [self._entry(name, it, id(it) in held, checksums[name], norms.get(name)) for name, it in self.named.items()]

    def _entry(self, name: str, it: Any, held: bool, checksum: str, norm: Optional[float]) -> Dict[str, Any]:
        entry = {
            "name": name,
            **self._about(name, it),
            "shape": [int(extent) for extent in it.shape],
            "dtype": self._tensors.dtype(it),
            "trainable": self._trains(it),
            # torch's optimizers skip a parameter without a gradient: a frozen one in a group is not optimized. A frozen one
            # whose gradient is still there is: the next step moves it.
            "optimized": held and (self._trains(it) or it.grad is not None),
            "digest": checksum,
            "sketch": [number(value) for value in self._tensors.sketch(it)],
        }
        if norm is None and entry["trainable"] and not held and it.grad is not None:
            # Nothing that holds it will use the gradient. What no forward uses has none.
            norm = self._tensors.norm(it.grad)
        return entry if norm is None else {**entry, "grad_norm": number(norm)}
