"""Records a training loop that knows nothing about it, through public hooks alone."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any, Callable, Dict, List, Mapping, Optional, Type, Union

from . import batches
from .declared import contract_of, recorded_facts
from .evaluation import Evaluation
from .forwards import Forwards
from .loaders import WatchedLoader
from .memory import Memory
from .micro_batches import MicroBatches
from .parameters import Parameters
from .tensors import Torch
from .trace import SCHEMA, Writer, failure
from .updates import Updates

Path = Union[str, "os.PathLike[str]"]


class Recorder:
    """The context manager that `record` returns: it records until its `with` block ends."""

    def __init__(
        self,
        path: Path,
        model: Any,
        optimizer: Any,
        loader: Any,
        *,
        epochs: Optional[int] = None,
        accumulation: int = 1,
        clip: Optional[float] = None,
        schedule: Optional[str] = None,
        warmup: int = 0,
        updates: Optional[int] = None,
        lr: Optional[float] = None,
        criterion: Optional[Any] = None,
        scaler: Optional[Any] = None,
        contract: Optional[Mapping[str, Any]] = None,
        digest_every: int = 10,
        tensors: Optional[Any] = None,
    ) -> None:
        if digest_every < 1:
            raise ValueError(f"digest_every: {digest_every}, expected at least 1")
        self._tensors = tensors if tensors is not None else Torch()
        # accelerate wraps the optimizer; the hooks run on the optimizer inside.
        optimizer = getattr(optimizer, "optimizer", optimizer)
        self._next_state = digest_every
        self._parameters = Parameters(model, optimizer, self._tensors, _group)
        conventions = contract_of(contract)
        self._loader = WatchedLoader(loader, self)
        self._releases: List[Callable[[], None]] = [self._loader.release]
        try:
            declared = {"epochs": epochs, "accumulation": accumulation, "clip": clip, "lr": lr}
            if schedule is not None:
                declared["schedule"] = {"name": schedule, "warmup": warmup, "updates": updates}
            parameters = self._parameters.named.values()
            self._facts = recorded_facts(declared, self._loader, optimizer, parameters, self._tensors)
            self._writer = Writer(open(path, "w", encoding="utf-8"))
            self._memory = Memory(self._writer, self._tensors)
            shared = (self._parameters, optimizer, self._tensors, self._writer, self)
            self._updates = Updates(*shared, digest_every=digest_every, scaler=scaler)
            self._releases.append(self._updates.release)
            self._updates.watch()
            self._micro_batches = MicroBatches(self._updates.gradients, self._tensors, self._writer)
            self._forwards = Forwards(model, self._parameters, self._micro_batches, self._tensors, self._evaluated)
            self._releases.append(self._forwards.release)
            self._forwards.watch(criterion)
            self._run(conventions)
            self._state("start")
        except BaseException:
            # The user may go on without a recording, or call `record` again.
            self.release()
            raise

    # Calls from the user's loop, for what no hook sees.

    def loss(self, value: Any) -> None:
        """The mean loss of the micro-batch, for a loop whose loss is neither in the model's output nor from `criterion`."""
        self._forwards.loss(value)

    def checkpoint(self, edge: str, path: Path) -> None:
        """The loop has `saved`, `loaded` or `deleted` a checkpoint."""
        self._settle()
        place = self._micro_batches.place()
        self._writer.event("checkpoint", edge=edge, step=self._updates.step, **place, path=os.fspath(path))
        self._memory.write("checkpoint", self._updates.step)

    # The `with` block.

    def __enter__(self) -> "Recorder":
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        _traceback: Optional[TracebackType],
    ) -> None:
        self.release()
        try:
            self._settle()
            self._micro_batches.end_epoch()
            if error is None:
                self._state("end")
        except Exception as own:  # noqa: BLE001: the recorder's own error must not replace the loop's
            if error is None:
                error = own
                raise
        finally:
            self._writer.event("end", **self._reason(error))
            self._writer.close()

    def release(self) -> None:
        """Removes all hooks. The loop can go on, unrecorded."""
        while self._releases:
            self._releases.pop()()

    def _reason(self, error: Optional[BaseException]) -> Dict[str, Any]:
        if error is None:
            # Only with both can the judge tell a whole run from one that stopped early.
            whole = "epochs" in self._facts and "samples" in self._facts
            return {"reason": "done" if whole else "stopped"}
        if isinstance(error, KeyboardInterrupt):
            return {"reason": "stopped", "message": "interrupted"}
        return failure(error)

    # Calls from the loader (loaders.Listener).

    def epoch_begins(self) -> None:
        self._settle()
        self._micro_batches.epoch_begins()

    def epoch_ends(self) -> None:
        self._settle()
        self._micro_batches.epoch_ends()

    def batch_yielded(self, batch: Any, samples: Optional[List[int]]) -> None:
        self._micro_batches.settle()
        if samples is None and not self._loader.size():
            samples = batches.content_ids(batch, self._tensors)
        self._micro_batches.yielded(batch, samples)

    # Calls from the optimizer (updates.Listener).

    def update_begins(self) -> Dict[str, Any]:
        self._settle()
        return {}

    def update_ends(self, applied: bool, checksums: Optional[Mapping[str, str]]) -> None:
        self._memory.write("update", self._updates.step, count=checksums is not None)
        # A skipped step changed no parameter, and its gradients are not finite: it gives no state.
        if applied and checksums is not None and self._updates.step >= self._next_state:
            # Twice the step each time: a state has an entry per tensor, and a long run must not drown in them.
            self._next_state = 2 * self._updates.step
            self._state("update", checksums)

    # Events.

    def _run(self, contract: Mapping[str, Any]) -> None:
        parameter = next(iter(self._parameters.named.values()), None)
        self._writer.event(
            "run",
            schema=SCHEMA,
            trainer=self._tensors.version(),
            device=str(getattr(parameter, "device", "cpu")),
            scenario="recorded",
            run="recorded",
            recorded=self._facts,
            contract=contract,
        )

    def _settle(self) -> None:
        """Writes the micro-batch or the evaluation that is still open."""
        self._forwards.end_evaluation()
        self._micro_batches.settle()

    def _evaluated(self, evaluation: Evaluation, losses: List[dict]) -> None:
        evaluation.write(self._writer, self._updates.step, losses=losses)
        self._memory.write("evaluation", self._updates.step)

    def _state(self, at: str, checksums: Optional[Mapping[str, str]] = None) -> None:
        norms = self._updates.norms if at == "update" else {}
        self._writer.event("state", at=at, step=self._updates.step, tensors=self._parameters.state(norms, checksums))


def record(path: Path, model: Any, optimizer: Any, loader: Any, **declared: Any) -> Recorder:
    """Records what a loop does with `model`, `optimizer` and `loader`, to the file `path`, for the length of a `with` block.

    The loop is judged by what you declare, and not by what you leave out: `epochs`, `accumulation` (default 1), `clip`,
    `schedule` ("constant", "linear" or "cosine") with `warmup`, `updates` (the schedule's length; by default it follows
    from the epochs) and `lr` (the peak; by default the optimizer's own). `criterion` is the module that computes the loss,
    if the model's output has none. `scaler` is a GradScaler. `contract` names conventions other than PyTorch's usual ones
    (see declared.py). Parameters are digested and live tensors counted every `digest_every` updates (default 10).
    """
    return Recorder(path, model, optimizer, loader, **declared)


def _group(_name: str, parameter: Any) -> Dict[str, str]:
    return {"group": "base" if parameter.requires_grad else "frozen"}
