"""Records a training loop that knows nothing of it, through public hooks alone."""

from __future__ import annotations

import math
import os
from types import TracebackType
from typing import Any, Dict, List, Mapping, Optional, Type, Union

from . import batches, scalers
from .declared import contract_of, known
from .gradients import Gradients
from .loaders import Watched
from .memory import Counting, process_lanes
from .tensors import Torch, digest
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
        self._model, self._optimizer, self._scaler = model, optimizer, scaler
        self._parameters = dict(model.named_parameters())
        self._digest_every, self._next_state = digest_every, digest_every
        self._step = self._index = 0
        self._epoch = -1
        self._epoch_over = False
        self._counting = Counting(self._tensors)
        self._drawn: Optional[dict] = None
        self._evaluation: Optional[dict] = None
        self._norms: Dict[str, float] = {}
        self._clipped = 0.0
        conventions = contract_of(contract)
        self._loader = Watched(loader, self)
        facts = {"epochs": epochs, "accumulation": accumulation, "clip": clip, "lr": lr}
        if schedule is not None:
            facts["schedule"] = {"name": schedule, "warmup": warmup, "updates": updates}
        self._declared = known(facts, self._loader, optimizer, self._parameters.values(), self._tensors)
        self._writer = Writer(open(path, "w", encoding="utf-8"))
        trained = {name: it for name, it in self._parameters.items() if it.requires_grad}
        self._gradients = Gradients(trained, optimizer, self._tensors)
        self._handles = [
            model.register_forward_pre_hook(lambda *_: self._forward_begins()),
            model.register_forward_hook(lambda _module, _inputs, output: self._forward_ends(output)),
            optimizer.register_step_pre_hook(lambda *_: self._update_begins()),
            optimizer.register_step_post_hook(lambda *_: self._update_ends()),
        ]
        self._watches = [self._loader.release, self._gradients.release]
        if scaler is not None:
            self._watches.append(scalers.watch(scaler, optimizer, lambda: self._step, self._skipped))
        if criterion is not None:
            self._handles.append(criterion.register_forward_hook(lambda _m, _i, output: self.loss(output)))
        self._run(conventions)
        self._state("start")

    # What the user may say beside what the hooks see.

    def loss(self, value: Any) -> None:
        """The mean loss of the micro-batch, where the model's own output has none and `criterion` was not given."""
        if self._drawn is not None and self._tensors.grad_enabled():
            self._drawn["losses"].append(value.detach() if self._tensors.is_tensor(value) else value)

    def checkpoint(self, edge: str, path: Union[str, "os.PathLike[str]"]) -> None:
        """A checkpoint was `saved`, `loaded` or `deleted`: no hook sees that."""
        self._settle()
        done = self._index if not self._epoch_over else 0
        epoch = max(self._epoch, 0) + int(self._epoch_over)
        where = {"epoch": epoch, "micro_batches": done, "path": os.fspath(path)}
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
        self._settle()
        self._end_epoch()
        if error is None:
            self._state("end")
        self._writer.event("end", **self._reason(error))
        self._writer.close()

    def release(self) -> None:
        """Takes all hooks off; the loop goes on unrecorded."""
        while self._watches:
            self._watches.pop()()
        while self._handles:
            self._handles.pop().remove()

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
        self._epoch += 1
        self._index = 0
        self._writer.event("epoch", epoch=self._epoch, edge="begin")

    def epoch_ends(self) -> None:
        self._micro_batch()
        # A loop may make the last window's update after the last batch: the edge is written when the next thing happens.
        self._epoch_over = True

    def drawn(self, batch: Any, samples: Optional[List[int]]) -> None:
        self._settle()
        if samples is None and not self._loader.size():
            samples = batches.content_ids(batch, self._tensors)
        seen = batches.describe(batch, self._tensors)
        self._drawn = {"index": self._index, "samples": samples, "losses": [], "forwards": 0, **seen}
        self._index += 1

    # What the hooks tell.

    def _forward_begins(self) -> None:
        training = self._tensors.grad_enabled() and (self._model.training or self._fresh())
        if training:
            return self._end_evaluation()
        if self._evaluation is not None:
            return
        self._micro_batch()
        self._evaluation = {"losses": [], "digest_before": self._digest(), "rng_before": self._tensors.rng()}

    def _forward_ends(self, output: Any) -> None:
        value = _loss_of(output, self._tensors)
        if self._evaluation is not None:
            if value is not None:
                self._evaluation["losses"].append(value)
            # Not at the evaluation's end: whoever begins the next epoch may draw from the stream by right.
            self._evaluation["rng_after"] = self._tensors.rng()
        elif self._drawn is not None:
            self._drawn["forwards"] += 1
            if value is not None:
                self._drawn["losses"].append(value)

    def _update_begins(self) -> None:
        self._end_evaluation()
        self._micro_batch()
        # A GradScaler's gradients are scaled until they are unscaled for clipping.
        scale = float(self._scaler.get_scale()) if self._scaler is not None else 1.0
        self._norms = {name: norm / scale for name, norm in self._gradients.norms().items()}
        self._clipped = self._tensors.total_norm([it.grad for it in self._parameters.values() if it.grad is not None])

    def _skipped(self) -> None:
        """A GradScaler found what is not finite and did not call the optimizer: an update that was not applied."""
        self._update_begins()
        self._update_ends(applied=False)

    def _update_ends(self, applied: bool = True) -> None:
        self._step += 1
        due = self._step % self._digest_every == 0
        digests = self._digests() if due else {}
        self._writer.event(
            "update",
            step=self._step,
            micro_batches=self._gradients.held(),
            lr=[number(float(group["lr"])) for group in self._optimizer.param_groups],
            grad_norm=number(_global(self._norms.values())) if self._norms else None,
            clipped_norm=number(self._clipped) if self._norms else None,
            applied=applied,
            digest=self._digest(digests) if due else None,
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
        parameter = next(iter(self._parameters.values()), None)
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
        self._gradients.next_micro_batch()
        if drawn is None or drawn.pop("forwards") == 0:
            return
        losses = [loss("loss", self._tensors.number(value), 1) for value in drawn.pop("losses")]
        self._writer.event("micro_batch", epoch=self._epoch, losses=losses, **drawn)

    def _end_evaluation(self) -> None:
        evaluation, self._evaluation = self._evaluation, None
        if evaluation is None:
            return
        losses = [loss("loss", self._tensors.number(value), 1) for value in evaluation.pop("losses")]
        after = self._digest()
        self._writer.event("evaluation", step=self._step, losses=losses, digest_after=after, **evaluation)
        self._memory("evaluation")

    def _memory(self, at: str, counted: bool = False) -> None:
        lanes = {**process_lanes(), **self._tensors.device_lanes()}
        if counted:
            lanes.update(self._counting.lanes())
        self._writer.event("memory", at=at, step=self._step, lanes=lanes)

    def _digests(self) -> Dict[str, str]:
        return {name: self._tensors.checksum(it) for name, it in self._parameters.items()}

    def _digest(self, digests: Optional[Mapping[str, str]] = None) -> str:
        """Of everything that trains."""
        digests = digests or self._digests()
        return digest(*(digests[name].encode() for name, it in self._parameters.items() if it.requires_grad))

    def _state(self, at: str, digests: Optional[Mapping[str, str]] = None) -> None:
        digests = digests or self._digests()
        held = {id(it) for group in self._optimizer.param_groups for it in group["params"]}
        tensors = []
        for name, it in self._parameters.items():
            # Optimizers of torch pass over what has no gradient: a frozen tensor in a group is not held by it.
            optimized = id(it) in held and (it.requires_grad or it.grad is not None)
            tensor = {
                "name": name,
                "group": "base" if it.requires_grad else "frozen",
                "shape": [int(extent) for extent in it.shape],
                "dtype": self._tensors.dtype(it),
                "trainable": bool(it.requires_grad),
                "optimized": optimized,
                "digest": digests[name],
                "sketch": [number(self._tensors.total(it))],
            }
            if name in self._norms and at == "update":
                tensor["grad_norm"] = number(self._norms[name])
            tensors.append(tensor)
        self._writer.event("state", at=at, step=self._step, tensors=tensors)


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


def _global(norms: Any) -> float:
    return math.sqrt(sum(norm * norm for norm in norms))
