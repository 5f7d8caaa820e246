"""What a script's parameters, their optimizers' moments and the buffers beside them are: the `state` events of a recording."""

from __future__ import annotations

from typing import Any, Dict, List, Mapping, Optional, Set

from ..parameters import Parameters
from ..trace import number
from .models import modules, names
from .windows import Window


# So many tensors without a gradient are named.
NAMES_MOST = 8


class States:
    """The parameters of all optimizers of a script, by name. `whole` is for a resume: moments and buffers, too."""

    def __init__(self, windows: List[Window], tensors: Any, whole: bool) -> None:
        self._windows, self._tensors, self._whole = windows, tensors, whole
        # Models that the user names: their parameters are in the trace, whether an optimizer holds one of them or not.
        self.given: List[Any] = []
        self._parameters: Optional[Parameters] = None
        # The identities of parameters that required gradients at a backward pass.
        self._trained: Set[int] = set()
        # Of these, those that never had a gradient.
        self._silent: Set[int] = set()
        self._seen: Dict[bool, str] = {}
        self._decays: Dict[int, float] = {}

    @property
    def known(self) -> bool:
        """Whether parameters were looked up."""
        return self._parameters is not None

    @property
    def groups(self) -> "Groups":
        """The parameter groups of all optimizers together."""
        return Groups(self._windows)

    def alive(self) -> List[Window]:
        """The optimizers that are still there."""
        return [it for it in self._windows if it.optimizer() is not None]

    def held(self) -> List[Any]:
        """The parameters of all optimizers."""
        return [parameter for it in self.alive() for parameter in it.parameters()]

    def named(self) -> Dict[str, Any]:
        """The parameters by name."""
        return self._parameters.named

    def fingerprint(self) -> str:
        """A digest that is quick and is not to be compared with another process's. Once optimizers step, it is of what those
        hold: a target network has an optimizer that never does, and follows by hand."""
        return self._tensors.fingerprint(self._stepping() or self.held())

    def _stepping(self) -> List[Any]:
        return [parameter for it in self.alive() if it.called for parameter in it.parameters()]

    def moved(self, buffers: bool) -> bool:
        """Whether parameters or moments are others than at the last call; with `buffers`, or buffers are."""
        beside = list(self._parameters.buffers().values()) if buffers and self.known else []
        now = self._tensors.fingerprint([*self.held(), *self.needed(), *beside], every=True)
        before, self._seen[buffers] = self._seen.get(buffers), now
        return now != before

    def needed(self) -> List[Any]:
        """What a resume needs: the parameters that train, and the optimizers' states of them."""
        states = [it for window in self.alive() for held in window.optimizer().state.values() for it in held.values()]
        moments = [it for it in states if self._tensors.is_tensor(it) and it.numel() > 1]
        return [*(it for it in self.held() if self._trains(it)), *moments]

    def look_up(self) -> None:
        """Names the parameters of all optimizers."""
        named = _Named(*names(self.held(), self._tensors, self.given))
        self._parameters = Parameters(named, self.groups, self._tensors, self._group, self._trains)

    def trained(self) -> None:
        """A backward pass begins: what requires gradients now trains."""
        new = {id(it) for it in self.held() if it.requires_grad} - self._trained
        self._trained |= new
        self._silent |= new

    def arrived(self) -> None:
        """A backward pass is done: what has a gradient now is not silent."""
        if self._silent:
            self._silent -= {id(it) for it in self.held() if it.grad is not None}

    def all_arrived(self) -> bool:
        """Whether everything that trains has had a gradient."""
        return bool(self._trained) and not self._silent

    def silent(self, ran: Set[int]) -> Optional[Dict[str, Any]]:
        """The parameters that train and have never had a gradient, though their module is one of those that `ran`: one that the
        task does not use, a head or an adapter that is not active, has none to get, and nor has one whose optimizer never steps."""
        if not self.known or not self._silent:
            return None
        idle = {id(it) for it in self.held()} - {id(it) for it in self._stepping()}
        idle |= {id(it) for module in modules(self._tensors) if id(module) not in ran for it in module._parameters.values()}
        names = [name for name, it in self.named().items() if id(it) in self._silent - idle]
        return {"count": len(names), "of": len(self._trained - idle), "names": names[:NAMES_MOST]} if names else None

    def training(self) -> Dict[str, Any]:
        """The parameters that train, by name."""
        return {name: it for name, it in self.named().items() if self._trains(it)}

    def checksums(self) -> Dict[str, str]:
        """A checksum per parameter."""
        return self._parameters.checksums()

    def digest(self, checksums: Optional[Mapping[str, str]]) -> Optional[str]:
        """One digest over all parameters, of their checksums."""
        return None if checksums is None else self._parameters.digest(checksums)

    def fields(self, at: str, step: int, checksums: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
        """The fields of a `state` event."""
        decaying = [it for it in self.groups.param_groups if "weight_decay" in it]
        self._decays = {id(parameter): float(it["weight_decay"]) for it in decaying for parameter in it["params"]}
        tensors = self._parameters.state({}, checksums)
        buffers = None
        if self._whole:
            moments = self._moments()
            tensors = [{**it, "moments": moments.get(it["name"])} for it in tensors]
            tensors = [{name: value for name, value in it.items() if value is not None} for it in tensors]
            buffers = {name: self._tensors.checksum(it) for name, it in self._parameters.buffers().items()}
        return {"at": at, "step": step, "tensors": tensors, "buffers": buffers}

    def _moments(self) -> Dict[str, str]:
        """A digest of the optimizer's state per parameter."""
        state = {id(it): held for window in self.alive() for it, held in window.optimizer().state.items()}
        return {name: self._tensors.digest_of(state[id(it)]) for name, it in self.named().items() if id(it) in state}

    def _trains(self, parameter: Any) -> bool:
        # A GAN may freeze its discriminator for the generator's half of each step.
        return bool(parameter.requires_grad) or id(parameter) in self._trained

    def _group(self, _name: str, parameter: Any) -> Dict[str, Any]:
        about: Dict[str, Any] = {"group": "base" if self._trains(parameter) else "frozen"}
        decay = self._decays.get(id(parameter))
        return about if decay is None else {**about, "decay": number(decay)}


class Groups:
    """What `Parameters` asks of an optimizer: here of several."""

    def __init__(self, windows: List[Window]) -> None:
        self._windows = windows

    @property
    def param_groups(self) -> List[Any]:
        return [group for it in self._windows if it.optimizer() is not None for group in it.optimizer().param_groups]


class _Named:
    """What `Parameters` asks of a model."""

    def __init__(self, named: Dict[str, Any], buffers: Dict[str, Any]) -> None:
        self._named, self._buffers = named, buffers

    def named_parameters(self) -> Any:
        return self._named.items()

    def named_buffers(self) -> Any:
        return self._buffers.items()
