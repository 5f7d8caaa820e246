"""Records a training loop for the length of a `with` block."""

from __future__ import annotations

import atexit
import os
from types import TracebackType
from typing import Any, Callable, Mapping, Optional, Type, Union

from .observe.attach import attach
from .observe.losses import copied
from .observe.session import Session

Path = Union[str, "os.PathLike[str]"]


class Recording:
    """Observes whatever trains in this process, until `close` or the end of the process."""

    def __init__(self, opens: Callable[[], Any], declared: Mapping[str, Any], digest_every: int = 10, counts: int = 0) -> None:
        """`opens` is called when training begins. Live tensors are counted at the first `counts` updates."""
        self._session = Session(opens, declared, digest_every, counts=counts)
        self._patches = attach(self._session)
        atexit.register(self.close)

    def made(self, optimizer: Any, scheduler: Any = None) -> None:
        """The optimizer, and perhaps its scheduler, were made before the recording began."""
        # accelerate wraps both; torch's hooks run on what is inside.
        self._session.optimizer_made(getattr(optimizer, "optimizer", optimizer))
        if scheduler is not None:
            self._session.schedules.made(getattr(scheduler, "scheduler", scheduler))

    def loaded(self) -> None:
        """The state of a checkpoint was loaded before the recording began."""
        self._session.loaded()

    @property
    def updates(self) -> int:
        """Optimizer steps so far."""
        return self._session.step

    def close(self, error: Optional[BaseException] = None) -> None:
        """Ends the recording; the loop can go on."""
        atexit.unregister(self.close)
        try:
            self._session.close(error)
        finally:
            self._release()

    def _release(self) -> None:
        self._patches.release()
        self._session.draws.release()


class Recorder(Recording):
    """The context manager that `record` returns: it records until its `with` block, or the process, ends."""

    def __init__(self, path: Path, model: Any, optimizer: Any, loader: Any, criterion: Any, digest_every: int, **declared: Any) -> None:
        super().__init__(lambda: open(path, "w", encoding="utf-8"), declared, digest_every)
        try:
            self._session.states.given.append(model)
            self.made(optimizer)
            if loader is not None:
                self._loader(loader)
            if criterion is not None:
                self._patches.hook(criterion.register_forward_hook(self._criterion))
        except BaseException:
            # The user may go on without a recording, or call `record` again.
            self.close()
            raise

    # Calls from the user's loop, for what no hook sees.

    def loss(self, value: Any) -> None:
        """The mean loss of the micro-batch, for a loop whose loss is neither in the model's output nor a loss of torch."""
        if getattr(value, "numel", lambda: 1)() != 1:
            raise ValueError(f"loss: shape {tuple(value.shape)}, expected one number, the mean of the micro-batch")
        self._session.losses.told(copied(value) if hasattr(value, "detach") else value)

    def checkpoint(self, edge: str, path: Path) -> None:
        """The loop has `saved`, `loaded` or `deleted` a checkpoint."""
        self._session.checkpoint(edge, os.fspath(path))

    # The `with` block.

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(self, kind: Optional[Type[BaseException]], error: Optional[BaseException], _traceback: Optional[TracebackType]) -> None:
        self.close(error)

    def _criterion(self, _module: Any, _inputs: Any, output: Any) -> None:
        if getattr(output, "requires_grad", False) and output.numel() == 1:
            self.loss(output)

    def _loader(self, loader: Any) -> None:
        import torch

        if isinstance(loader, torch.utils.data.DataLoader) or self._session.draws.observed(loader):
            return
        if not hasattr(loader, "__iter__"):
            raise TypeError(f"loader: a {type(loader).__name__}, expected an object that has __iter__")


def record(
    path: Path,
    model: Any,
    optimizer: Any,
    loader: Any = None,
    *,
    criterion: Any = None,
    digest_every: int = 10,
    **declared: Any,
) -> Recorder:
    """Records what a loop does with `model` and `optimizer`, to the file `path`, for the length of a `with` block.

    Declared facts are held strictly, and what is not declared is held for consistency: `epochs`, `accumulation`, `clip`,
    `trainable` (patterns of parameter names, as `lora_*`), `decay` with `no_decay` (patterns), and `schedule`: a form of `traintrue.schedules`, a function that
    gives the rate of an update, counted from 0, a list of rates, or a scheduler of torch that is stepped once per update. Or
    "constant", "linear" or "cosine" with `warmup`, `updates` (the schedule's length; by default it follows from the epochs)
    and `lr` (the peak; by default the optimizer's own).
    `loader` is needed only if it is no DataLoader; without it a micro-batch is what a training forward consumes. `criterion`
    is the module that computes the loss, if it is not one of torch's. `contract` names conventions other than PyTorch's usual
    ones (see declared.py). Parameters are checksummed every `digest_every` updates (default 10).
    """
    return Recorder(path, model, optimizer, loader, criterion, digest_every, **declared)
