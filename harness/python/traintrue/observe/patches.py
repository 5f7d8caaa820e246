"""Wraps public functions of other packages, and gives them back."""

from __future__ import annotations

import contextlib
import functools
from typing import Any, Callable, Dict, Iterator, List, Tuple

# From the original function, the one that stands in its place.
Wrapper = Callable[[Callable[..., Any]], Callable[..., Any]]


class Patches:
    """The functions that are wrapped and the hooks that are registered, until `release`."""

    def __init__(self) -> None:
        self._undo: List[Callable[[], None]] = []
        self._wrapped: List[Tuple[Any, str, Any, Any]] = []

    def wrap(self, owner: Any, name: str, wrapper: Wrapper) -> None:
        """Replaces `owner.name`. An owner of another version of torch may lack the name: nothing is wrapped then."""
        original = vars(owner).get(name)
        if not callable(original):
            return
        replacement = functools.wraps(original)(wrapper(original))
        setattr(owner, name, replacement)
        self._wrapped.append((owner, name, original, replacement))

    @contextlib.contextmanager
    def lifted(self) -> Iterator[None]:
        """Gives the functions back for the length of a `with` block, for what reads their source."""
        # Somebody else may have wrapped a function since: theirs stays, and a released session lets all calls through.
        mine = [it for it in self._wrapped if vars(it[0]).get(it[1]) is it[3]]
        for owner, name, original, _ in mine:
            setattr(owner, name, original)
        try:
            yield
        finally:
            for owner, name, _, replacement in mine:
                setattr(owner, name, replacement)

    def hook(self, handle: Any) -> None:
        """Keeps a hook's handle, to remove the hook at the end."""
        self._undo.append(handle.remove)

    def release(self) -> None:
        """Gives everything back, the last first."""
        while self._undo:
            self._undo.pop()()
        while self._wrapped:
            owner, name, original, replacement = self._wrapped.pop()
            if vars(owner).get(name) is replacement:
                setattr(owner, name, original)


class Guard:
    """Calls the recorder's own code. An error of the recorder never reaches the script: it is kept, and told at the end."""

    MOST = 20

    def __init__(self) -> None:
        self._trouble: Dict[str, None] = {}

    def __call__(self, call: Callable[..., Any], *given: Any) -> Any:
        try:
            return call(*given)
        except Exception as error:  # noqa: BLE001: the script must go on, whatever went wrong here
            if len(self._trouble) < self.MOST:
                self._trouble[f"{call.__qualname__}: {type(error).__name__}: {error}"] = None
            return None

    def trouble(self) -> List[str]:
        """The errors so far, each of them once."""
        return list(self._trouble)
