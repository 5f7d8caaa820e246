"""A hook that stays with the module that it was made for."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any, Callable


class Hook:
    """Calls what it was made with. Its copy, and what is loaded after it was saved, does nothing.

    `copy.deepcopy(model)` and `torch.save(model)` take a module's hooks along: a copy is not what is recorded, and who loads
    a model need not have this package.
    """

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *given: Any) -> Any:
        return self._call(*given)

    def __reduce__(self) -> Any:
        # A function of the standard library that takes anything and gives None.
        return getattr, (nullcontext(), "__exit__")
