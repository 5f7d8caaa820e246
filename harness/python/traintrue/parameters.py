"""The parameters of a model by name: what each is at a moment."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional

from .tensors import digest
from .trace import number


class Parameters:
    """All parameters of a model, and which of them its optimizer holds."""

    def __init__(self, model: Any, optimizer: Any, tensors: Any) -> None:
        self._optimizer, self._tensors = optimizer, tensors
        self.named: Dict[str, Any] = dict(model.named_parameters())
        # As it was at first: PEFT's `disable_adapter`, for one, freezes what trains for the while.
        self._trained = [name for name, it in self.named.items() if it.requires_grad]

    def digests(self) -> Dict[str, str]:
        """A checksum of each."""
        return {name: self._tensors.checksum(it) for name, it in self.named.items()}

    def digest(self, digests: Optional[Mapping[str, str]] = None) -> str:
        """Of everything that trains."""
        digests = digests or self.digests()
        return digest(*(digests[name].encode() for name in self._trained))

    def state(self, norms: Mapping[str, float], digests: Optional[Mapping[str, str]] = None) -> List[Dict[str, Any]]:
        """Each as a trace's state has it, with the norms of the gradients that there were."""
        digests = digests or self.digests()
        held = {id(it) for group in self._optimizer.param_groups for it in group["params"]}
        return [self._one(name, it, id(it) in held, digests[name], norms.get(name)) for name, it in self.named.items()]

    def _one(self, name: str, it: Any, held: bool, checksum: str, norm: Optional[float]) -> Dict[str, Any]:
        tensor = {
            "name": name,
            "group": "base" if it.requires_grad else "frozen",
            "shape": [int(extent) for extent in it.shape],
            "dtype": self._tensors.dtype(it),
            "trainable": bool(it.requires_grad),
            # Optimizers of torch pass over what has no gradient: a frozen tensor in a group is not held by it.
            "optimized": held and (it.requires_grad or it.grad is not None),
            "digest": checksum,
            "sketch": [number(self._tensors.total(it))],
        }
        return tensor if norm is None else {**tensor, "grad_norm": number(norm)}
