"""Records a training loop for the length of a `with` block."""

from __future__ import annotations

import atexit
import os
from types import TracebackType
from typing import Any, Optional, Type, Union

from .observe.attach import attach
from .observe.losses import copied
from .observe.session import Session

Path = Union[str, "os.PathLike[str]"]


class Recorder:
    """The context manager that `record` returns: it records until its `with` block, or the process, ends."""

    def __init__(self, path: Path, model: Any, optimizer: Any, loader: Any, criterion: Any, digest_every: int, **declared: Any) -> None:
        self._session = Session(lambda: open(path, "w", encoding="utf-8"), declared, digest_every)
        self._patches = attach(self._session)
        try:
            self._session.model_given(model)
            # accelerate wraps the optimizer; torch's hooks run on the optimizer inside.
            self._session.optimizer_made(getattr(optimizer, "optimizer", optimizer))
            if loader is not None:
                self._loader(loader)
            if criterion is not None:
                self._patches.hook(criterion.register_forward_hook(self._criterion))
        except BaseException:
            # The user may go on without a recording, or call `record` again.
            self._release()
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

    def close(self, error: Optional[BaseException] = None) -> None:
        """Ends the recording; the loop can go on."""
        atexit.unregister(self.close)
        try:
            self._session.close(error)
        finally:
            self._release()

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

    def _release(self) -> None:
        self._patches.release()
        self._session.draws.release()


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
    `trainable` (patterns of parameter names, as `lora_*`), and `schedule`: a form of `traintrue.schedules`, a function that
    gives the rate of an update, counted from 0, a list of rates, or a scheduler of torch that is stepped once per update. Or
    "constant", "linear" or "cosine" with `warmup`, `updates` (the schedule's length; by default it follows from the epochs)
    and `lr` (the peak; by default the optimizer's own).
    `loader` is needed only if it is no DataLoader; without it a micro-batch is what a training forward consumes. `criterion`
    is the module that computes the loss, if it is not one of torch's. `contract` names conventions other than PyTorch's usual
    ones (see declared.py). Parameters are checksummed every `digest_every` updates (default 10).
    """
    recorder = Recorder(path, model, optimizer, loader, criterion, digest_every, **declared)
    atexit.register(recorder.close)
    return recorder
