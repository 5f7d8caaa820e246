"""What is recorded of a run only because it is compared with another: all that a resume must bring back, and when it is saved."""

from __future__ import annotations

import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

from .. import scalers
from ..trace import number
from .averages import Averages
from .cut import Cut
from .saves import Saves
from .states import States

# The edge of a checkpoint, its path, and whether it is whole.
Told = Tuple[str, str, Optional[bool]]


class Compared:
    """The state at the start, the state that each update left, the random state of each micro-batch, and the files."""

    def __init__(
        self, cut: Cut, states: States, averages: Averages, tensors: Any, guard: Callable[..., Any], state: Callable[[str], Dict[str, Any]]
    ) -> None:
        """`state` gives the fields of a state event."""
        self.cut = cut
        self._states, self._averages, self._tensors, self._guard, self._state = states, averages, tensors, guard, state
        self.saves = Saves(tensors, states.needed)
        self._scalers: "weakref.WeakSet[Any]" = weakref.WeakSet()
        # The state before training, and the random state before the micro-batch that is open.
        self.start: Optional[Dict[str, Any]] = None
        self.random: Optional[str] = None
        # Micro-batches done, and whether the next one has begun.
        self._done, self._begun = 0, False
        # Whether an update has left a state that is still to be written, and whether a GradScaler skipped it.
        self._leaves = self._skipped = False

    def forward(self, is_open: bool) -> None:
        """A training forward begins; `is_open` where training has begun before."""
        if not is_open and (self._states.moved(buffers=False) or self.start is None):
            # Before the first forward: a batch norm's buffers change in it. And again before another one where the script
            # has loaded since.
            self._states.look_up()
            self._guard(self._averages.look_up, self._states.training())
            self.start = self._state("start")

    def next(self) -> bool:
        """Whether the next micro-batch begins here: everything that belongs to the one before is then done."""
        begins, self._begun = not self._begun, True
        return begins

    def is_here(self) -> bool:
        """Whether the run is to end before the micro-batch that begins."""
        # In the rest of the window only batch norms' buffers change: a state of these is written where they are saved.
        self._leaves = False
        return self.cut.is_here(self._done)

    def micro_batch(self) -> None:
        """A micro-batch has had its backward pass."""
        self._done, self._begun = self._done + 1, False

    def update(self, applied: bool) -> None:
        """The optimizer has stepped. An update that a GradScaler skips leaves the state of the one before, and counts."""
        self._leaves, self._skipped = True, not applied

    def left(self) -> bool:
        """Whether an update left a state that was not written yet. Not in its step: a loop may clamp parameters after it, or
        average them."""
        leaves = self._leaves and (self._states.moved(buffers=True) or self._skipped)
        self._skipped = self._skipped and not leaves
        return leaves

    def beside(self) -> Dict[str, Any]:
        """What a resume must bring back beside parameters, moments and buffers."""
        scaler = scalers.only(self._scalers)
        return {"scaler": None if scaler is None else number(scaler.get_scale()), "parts": self._averages.digests()}

    def scaler_made(self, scaler: Any) -> None:
        """The script has made a GradScaler."""
        self._scalers.add(scaler)

    def loaded(self, is_open: bool) -> None:
        """The script has loaded a state dict."""
        self.saves.loaded(None)
        if not is_open:
            self.start = None

    def is_saving(self, step: int) -> bool:
        """Whether what the script saves now counts: the state that it holds is then written first, if it was not yet."""
        if self.cut.over or not self._states.known:
            return False
        self._leaves = self._leaves or step > 0
        return True

    def moved(self, source: Any, to: Any, keeps: bool, step: int) -> List[Told]:
        """A file or a folder has another name: the checkpoints of this update among them."""
        moved = [] if self.cut.over else self.saves.moved(source, to, keeps)
        return [("saved", path, whole) for path, saved_at, whole in moved if saved_at == step]

    def removed(self, path: Any) -> List[Told]:
        """A file or a folder is gone."""
        return [] if self.cut.over else [("deleted", it, None) for it in self.saves.removed(path)]
