"""Writes `evaluation` events: what an evaluation saw, and whether it changed parameters or random streams."""

from __future__ import annotations

from typing import Any

from .parameters import Parameters
from .trace import Writer


class Evaluation:
    """One evaluation. Made before its first forward; `forward_ends` after each forward; `write` at its end."""

    def __init__(self, parameters: Parameters, tensors: Any) -> None:
        self._parameters, self._tensors = parameters, tensors
        self._digest_before = parameters.digest()
        self._rng_before = self._rng_after = tensors.rng()

    def forward_begins(self) -> None:
        """A further forward."""
        # Between two forwards other code may draw random numbers, for example a second loader that starts. That is not the
        # evaluation's doing. A change that an earlier forward made stays visible.
        if self._rng_before == self._rng_after:
            self._rng_before = self._rng_after = self._tensors.rng()

    def forward_ends(self) -> None:
        """The stream is read here and not in `write`: before that, the next epoch's loader may have drawn its order."""
        self._rng_after = self._tensors.rng()

    def write(self, writer: Writer, step: int, **seen: Any) -> None:
        """Writes the event; `seen` are the losses, and samples and metric where they are known."""
        writer.event(
            "evaluation",
            step=step,
            **seen,
            digest_before=self._digest_before,
            rng_before=self._rng_before,
            digest_after=self._parameters.digest(),
            rng_after=self._rng_after,
        )
