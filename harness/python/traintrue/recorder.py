"""Records a training loop that knows nothing of it, through public hooks alone."""

from __future__ import annotations

import math
import os
from types import TracebackType
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Type, Union

from . import batches, scalers
from .declared import contract_of, known
from .gradients import Gradients
from .hooks import Hook
from .loaders import Watched
from .memory import Counting, process_lanes
from .parameters import Parameters
from .tensors import Torch
from .trace import SCHEMA, Writer, loss, number


class Recorder:
    """What `record` gives: it listens until its `with` block ends."""

    def __init__(
        self,
        path: Union[str, "os.PathLike[str]"],
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
        # A wrapper, such as accelerate's, calls the optimizer that it holds.
        optimizer = getattr(optimizer, "optimizer", optimizer)
        self._model, self._optimizer, self._scaler = model, optimizer, scaler
        self._parameters = Parameters(model, optimizer, self._tensors)
        self._digest_every, self._next_state = digest_every, digest_every
        self._step = self._index = 0
        self._epoch = -1
        self._epoch_begins = self._epoch_over = False
        self._counting = Counting(self._tensors)
        self._drawn: Optional[dict] = None
        self._evaluation: Optional[dict] = None
        self._norms: Dict[str, float] = {}
        self._clipped = 0.0
        self._overflowed = False
        conventions = contract_of(contract)
        self._watches: List[Callable[[], None]] = []
        self._loader = Watched(loader, self)
        self._watches.append(self._loader.release)
        try:
            facts = {"epochs": epochs, "accumulation": accumulation, "clip": clip, "lr": lr}
            if schedule is not None:
                facts["schedule"] = {"name": schedule, "warmup": warmup, "updates": updates}
            self._declared = known(facts, self._loader, optimizer, self._parameters.named.values(), self._tensors)
            self._writer = Writer(open(path, "w", encoding="utf-8"))
            self._listen(criterion)
            self._run(conventions)
            self._state("start")
        except BaseException:
            # The loop goes on, or is tried again, as if nobody had looked.
            self.release()
            raise

    def _listen(self, criterion: Optional[Any]) -> None:
        self._gradients = Gradients(self._parameters.named, self._optimizer, self._tensors)
        self._watches.append(self._gradients.release)
        hooks = [
            self._model.register_forward_pre_hook(Hook(lambda *_: self._forward_begins())),
            self._model.register_forward_hook(Hook(lambda _module, _inputs, output: self._forward_ends(output))),
            self._optimizer.register_step_pre_hook(lambda _optimizer, *given: self._step_begins(*given)),
            self._optimizer.register_step_post_hook(lambda _optimizer, *given: self._step_ends(*given)),
        ]
        if criterion is not None:
            hooks.append(criterion.register_forward_hook(Hook(lambda _module, _inputs, output: self._lost(output))))
        self._watches += [handle.remove for handle in hooks]
        if self._scaler is not None:
            self._watches.append(scalers.watch(self._scaler, self._optimizer, lambda: self._step, self._skipped))

    # What the user may say beside what the hooks see.

    def loss(self, value: Any) -> None:
        """The mean loss of the micro-batch, where the model's own output has none and `criterion` was not given."""
        if self._tensors.is_tensor(value):
            if math.prod(value.shape) != 1:
                raise ValueError(f"loss: of shape {tuple(value.shape)}, expected one number, the micro-batch's mean")
            value = value.detach()
        if self._drawn is not None and self._tensors.grad_enabled():
            self._drawn["losses"].append(value)

    def checkpoint(self, edge: str, path: Union[str, "os.PathLike[str]"]) -> None:
        """A checkpoint was `saved`, `loaded` or `deleted`: no hook sees that."""
        self._settle()
        between = self._epoch_over or self._epoch_begins or self._epoch < 0
        done = 0 if between else self._index
        where = {"epoch": self._epoch + int(between), "micro_batches": done, "path": os.fspath(path)}
        self._writer.event("checkpoint", edge=edge, step=self._step, **where)
        self._memory("checkpoint")

    # The with block.

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
            self._end_epoch()
            if error is None:
                self._state("end")
        except Exception as own:  # noqa: BLE001: after a loop's own error nothing may stand in its place
            if error is None:
                error = own
                raise
        finally:
            self._writer.event("end", **self._reason(error))
            self._writer.close()

    def release(self) -> None:
        """Takes all hooks off; the loop goes on unrecorded."""
        while self._watches:
            self._watches.pop()()

    def _reason(self, error: Optional[BaseException]) -> Dict[str, Any]:
        if error is None:
            # Without either nobody could say what a whole run is.
            whole = "epochs" in self._declared and "samples" in self._declared
            return {"reason": "done" if whole else "stopped"}
        if isinstance(error, KeyboardInterrupt):
            return {"reason": "stopped", "message": "interrupted"}
        return {"reason": "error", "message": f"{type(error).__name__}: {error}"}

    # What the loader tells.

    def epoch_begins(self) -> None:
        self._settle()
        self._end_epoch()
        self._index = 0
        # Whoever looks at a batch, or evaluates what was trained on, begins the loader too: an epoch is one that trains.
        self._epoch_begins = True

    def epoch_ends(self) -> None:
        self._settle()
        # A loop may make the last window's update after the last batch: the edge is written when the next thing happens.
        self._epoch_over = not self._epoch_begins

    def drawn(self, batch: Any, samples: Optional[List[int]]) -> None:
        self._micro_batch()
        if samples is None and not self._loader.size():
            samples = batches.content_ids(batch, self._tensors)
        seen = batches.describe(batch, self._tensors)
        self._drawn = {"index": self._index, "samples": samples, "losses": [], "forwards": 0, **seen}
        self._index += 1

    # What the hooks tell.

    def _forward_begins(self) -> None:
        if self._tensors.grad_enabled() and (self._model.training or self._fresh()):
            return self._end_evaluation()
        if self._fresh():
            # The batch is yet to be trained on: a model in training mode looks at it first, as a teacher or a reference.
            if self._model.training:
                return
        elif self._evaluation is None:
            self._micro_batch()
        rng, evaluation = self._tensors.rng(), self._evaluation
        if evaluation is None:
            digest = self._parameters.digest()
            self._evaluation = {"losses": [], "digest_before": digest, "rng_before": rng, "rng_after": rng}
        elif evaluation["rng_before"] == evaluation["rng_after"]:
            # What others draw between two forwards, as a second loader that is begun, is no evaluation's doing.
            evaluation["rng_before"] = rng

    def _forward_ends(self, output: Any) -> None:
        value = _loss_of(output, self._tensors)
        if self._evaluation is not None:
            if value is not None:
                self._evaluation["losses"].append(value)
            # Not at the evaluation's end: whoever begins the next epoch may draw from the stream by right.
            self._evaluation["rng_after"] = self._tensors.rng()
        elif self._drawn is not None and self._tensors.grad_enabled():
            self._drawn["forwards"] += 1
            if value is not None:
                self._drawn["losses"].append(value)

    def _lost(self, output: Any) -> None:
        value = _loss_of(output, self._tensors)
        if value is not None:
            self.loss(value)

    # A step that is given a closure makes its gradients itself: they are there when it is done.

    def _step_begins(self, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        if not _closure(args, named):
            self._update_begins()

    def _step_ends(self, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        if _closure(args, named):
            self._update_begins()
        self._update_ends()

    def _update_begins(self) -> None:
        self._settle()
        # A GradScaler's gradients are scaled until they are unscaled for clipping; for a fused optimizer until it steps.
        scale = float(self._scaler.get_scale()) if self._scaler is not None else 1.0
        self._norms = {name: norm / scale for name, norm in self._gradients.norms().items()}
        there = [it.grad for it in self._parameters.named.values() if it.grad is not None]
        self._clipped = self._tensors.total_norm(there) / scalers.left_scaled(self._optimizer, self._tensors)
        self._overflowed = scalers.overflowed(self._optimizer, self._tensors)

    def _skipped(self) -> None:
        """A GradScaler found what is not finite and did not call the optimizer: an update that was not applied."""
        self._update_begins()
        self._overflowed = True
        self._update_ends()

    def _update_ends(self) -> None:
        applied = not self._overflowed
        self._step += 1
        due = self._step % self._digest_every == 0
        digests = self._parameters.digests() if due else {}
        self._writer.event(
            "update",
            step=self._step,
            micro_batches=self._gradients.held(),
            lr=[number(float(group["lr"])) for group in self._optimizer.param_groups],
            grad_norm=number(_global(self._norms.values())) if self._norms else None,
            clipped_norm=number(self._clipped) if self._norms else None,
            applied=applied,
            digest=self._parameters.digest(digests) if due else None,
        )
        self._gradients.applied()
        self._memory("update", counted=due)
        # A step that was skipped leaves the state that was told, and gradients that are not finite.
        if applied and due and self._step >= self._next_state:
            # Ever more seldom: a state is as long as the model has tensors.
            self._next_state = 2 * self._step
            self._state("update", digests)

    # What is written.

    def _run(self, contract: Mapping[str, Any]) -> None:
        parameter = next(iter(self._parameters.named.values()), None)
        self._writer.event(
            "run",
            schema=SCHEMA,
            trainer=self._tensors.version(),
            device=str(getattr(parameter, "device", "cpu")),
            scenario="recorded",
            run="recorded",
            recorded=self._declared,
            contract=contract,
        )

    def _settle(self) -> None:
        """Writes what is still open."""
        self._end_evaluation()
        self._micro_batch()

    def _end_epoch(self) -> None:
        if self._epoch_over:
            self._epoch_over = False
            self._writer.event("epoch", epoch=self._epoch, edge="end")

    def _fresh(self) -> bool:
        return self._drawn is not None and self._drawn["forwards"] == 0

    def _micro_batch(self) -> None:
        """The batch that was drawn last is done, where the model has seen it."""
        drawn, self._drawn = self._drawn, None
        learnt = self._gradients.next_micro_batch()
        # A loop may call a method of the model that no hook sees: its gradients tell.
        if drawn is None or (drawn.pop("forwards") == 0 and not learnt):
            return
        if self._epoch_begins:
            self._epoch_begins = False
            self._epoch += 1
            self._writer.event("epoch", epoch=self._epoch, edge="begin")
        losses = [loss("loss", self._tensors.number(value), 1) for value in drawn.pop("losses")]
        self._writer.event("micro_batch", epoch=self._epoch, losses=losses, **drawn)

    def _end_evaluation(self) -> None:
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is None:
            return
        losses = [loss("loss", self._tensors.number(value), 1) for value in evaluation.pop("losses")]
        after = self._parameters.digest()
        self._writer.event("evaluation", step=self._step, losses=losses, digest_after=after, **evaluation)
        self._memory("evaluation")

    def _memory(self, at: str, counted: bool = False) -> None:
        lanes = {**process_lanes(), **self._tensors.device_lanes()}
        if counted:
            lanes.update(self._counting.lanes())
        self._writer.event("memory", at=at, step=self._step, lanes=lanes)

    def _state(self, at: str, digests: Optional[Mapping[str, str]] = None) -> None:
        norms = self._norms if at == "update" else {}
        self._writer.event("state", at=at, step=self._step, tensors=self._parameters.state(norms, digests))


def record(path: Union[str, "os.PathLike[str]"], model: Any, optimizer: Any, loader: Any, **declared: Any) -> Recorder:
    """Records what a loop does with `model`, `optimizer` and `loader` into `path`, for as long as its `with` block lasts.

    What is declared is what the loop is held to; what is not is not judged: `epochs`, `accumulation` (1), `clip`,
    `schedule` ("constant", "linear" or "cosine") with `warmup`, `updates` (its total; else it follows from the epochs) and
    `lr` (its peak; else the optimizer's own). `criterion` is the module that gives the loss, where the model does not;
    `scaler` a GradScaler; `contract` conventions that are not PyTorch's usual ones (see `declared.py`). Parameters are
    digested, and tensors counted, every `digest_every` updates.
    """
    return Recorder(path, model, optimizer, loader, **declared)


def _loss_of(output: Any, tensors: Any) -> Optional[Any]:
    """The loss in what a model returns: `output.loss`, `output["loss"]`, or the output itself where it is one number."""
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None and tensors.is_tensor(output) and len(output.shape) == 0:
        found = output
    if not tensors.is_tensor(found) or math.prod(found.shape) != 1:
        return None
    # Without its graph: what a recorder holds must not keep a step's activations alive.
    return found.detach()


def _closure(args: Sequence[Any], named: Mapping[str, Any]) -> bool:
    # The first argument is the optimizer itself.
    return callable(args[1] if len(args) > 1 else named.get("closure"))


def _global(norms: Any) -> float:
    return math.sqrt(sum(norm * norm for norm in norms))
