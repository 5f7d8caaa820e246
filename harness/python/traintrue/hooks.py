"""A hook that acts on the module it was registered on, and on no copy of that module."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Callable


class Hook:
    """Calls a function. A copy of the hook does nothing, nor does a hook that was saved and loaded.

    `copy.deepcopy(model)` and `torch.save(model)` copy a module's hooks too. A copy of the model is not the model that is
    recorded, and a saved model must load on a machine without this package.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *given: Any) -> Any:
        return self._call(*given)

    def __reduce__(self) -> Any:
        # The copy is a function of the standard library that takes any arguments and returns None.
        return getattr, (nullcontext(), "__exit__")
