"""Whether training goes on after an evaluation with the parameters that the last update left."""

from __future__ import annotations

from typing import Callable, Optional


class Around:
    """Compares a fingerprint of the parameters after each update with that at the next training forward."""

    def __init__(self, fingerprint: Callable[[], str]) -> None:
        self._fingerprint = fingerprint
        self._left: Optional[str] = None
        self._compare = self._evaluated = False
        # Whether a forward without an evaluation before it has found the parameters unchanged, and whether one has not.
        self._steady = self._drifts = False
        self._swapped = False

    def updated(self) -> None:
        """An update is done."""
        self._left, self._compare, self._evaluated = self._fingerprint(), True, False
        self._swapped = False

    def evaluates(self, fingerprint: str) -> None:
        """An evaluation begins, on these parameters."""
        self._swapped = self._swapped or (self._left is not None and fingerprint != self._left)

    def evaluated(self) -> None:
        """An evaluation is done."""
        self._compare = self._evaluated = True

    def swapped(self) -> bool:
        """Whether an evaluation since the last update ran on other parameters than the update left: on averaged ones."""
        return self._swapped

    def forget(self) -> None:
        """A state dict was loaded: the parameters are others, rightly."""
        self._left = None

    def training_forward(self) -> Optional[bool]:
        """Whether an evaluation lies between and the parameters have changed. None where nothing can be said.

        A loop may move parameters between its updates itself, for example by clamping them. An evaluation is blamed only if
        the parameters were seen unchanged without one.
        """
        if not self._compare or self._left is None:
            return None
        evaluated, self._compare, self._evaluated = self._evaluated, False, False
        changed = self._fingerprint() != self._left
        if evaluated:
            return changed if self._steady and not self._drifts else None
        self._steady = True
        self._drifts = self._drifts or changed
        return None
