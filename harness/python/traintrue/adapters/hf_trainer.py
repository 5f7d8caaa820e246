"""Hugging Face's `Trainer`, driven through its arguments, callbacks and overridable methods alone."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Callable, Dict, List, Optional

import torch
from transformers import Trainer, TrainerCallback

from ..trace import Writer, loss
from . import hf_model, probes
from .data import Batch, Collator, Samples
from .hf_arguments import arguments
from .peak import peak
from .protocol import Plan
from .run_trace import RunTrace, summed
from .schedule import micro_batches


class TracedTrainer(Trainer):
    """A Trainer whose micro-batches and evaluations are written to the trace."""

    def __init__(self, trace: RunTrace, follower: "Follower", **settings: Any) -> None:
        self.trace, self.follower = trace, follower
        super().__init__(callbacks=[follower], **settings)
        follower.trainer = self

    def _get_train_sampler(self, *args: Any, **more: Any) -> Any:
        if self.follower.plan["data"]["shuffle"]:
            return super()._get_train_sampler(*args, **more)
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_optimizer(self, *args: Any, **more: Any) -> Any:
        optimizer = super().create_optimizer(*args, **more)
        adapted = bool(self.follower.plan["train"].get("adapters"))
        self.trace.attach(self.model, self.optimizer, lambda name: hf_model.group_of(name, adapted))
        self.trace.state("start", 0, 0)
        return optimizer

    def _load_rng_state(self, *args: Any, **more: Any) -> None:
        super()._load_rng_state(*args, **more)
        self.follower.all_loaded()

    def training_step(self, model: Any, inputs: Batch, *args: Any, **more: Any) -> torch.Tensor:
        self.follower.begin()
        batch = {name: value.clone() for name, value in inputs.items()}
        inputs.pop("ids")
        with self.trace.telling(self.trace.index, batch) as told:
            result = self.follower.measured(lambda: super(TracedTrainer, self).training_step(model, inputs, *args, **more))
        self.follower.micro_batch(batch, told.fields())
        return result

    def prediction_step(self, model: Any, inputs: Batch, *args: Any, **more: Any) -> Any:
        batch = {name: value.clone() for name, value in inputs.items()}
        inputs.pop("ids")
        result = super().prediction_step(model, inputs, *args, **more)
        self.follower.evaluated.append((batch, self.follower.output))
        return result

    def evaluate(self, *args: Any, **more: Any) -> Dict[str, float]:
        metrics: Dict[str, float] = {}

        def whole() -> tuple:
            self.follower.evaluated = []
            metrics.update(super(TracedTrainer, self).evaluate(*args, **more))
            sums = [(batch, hf_model.sums(self.model, batch, logits)) for batch, (logits, _) in self.follower.evaluated]
            ids = [at for batch, _ in sums for at in batch["ids"].tolist()]
            losses = [loss("lm", float(it.losses["lm"]), it.weights["lm"]) for _, it in sums]
            return ids, losses, metrics["eval_loss"]

        self.trace.evaluation(whole)
        return metrics


class Follower(TrainerCallback):
    """Follows the Trainer through its run, and makes it save, evaluate and stop where the plan says."""

    def __init__(self, plan: Plan, trace: RunTrace) -> None:
        self.plan, self.trace = plan, trace
        self.each, self.window = micro_batches(plan), plan["train"]["accumulation"]
        self.trainer: Optional[TracedTrainer] = None
        self.loaded: Optional[str] = None
        self.fresh: Optional[str] = None
        self.begun = self.in_epochs = self.stopped = False
        self.first, self.peak = True, None
        self.output: Any = (None, 0)
        self.evaluated: List[tuple] = []

    def watch_forward(self, _module: Any, _inputs: Any, output: Any) -> None:
        """Keeps the logits of the last forward, and the bytes of the cache that it filled."""
        self.output = (output.logits.detach(), hf_model.cache_bytes(getattr(output, "past_key_values", None)))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.loaded is not None:
            # The Trainer finds its place in the same way: from the number of updates that it plans per epoch.
            planned = max(state.max_steps // self.plan["data"]["epochs"], 1)
            step = state.global_step
            self.trace.resume(step, step // planned, step % planned * self.window)
        if self.loaded is not None or self.fresh is not None:
            self.trace.checkpoint("loaded", self.loaded or self.fresh)

    def all_loaded(self) -> None:
        """The Trainer restores the random streams last, before the epoch's loader starts and draws from them."""
        if self.loaded is not None:
            self.state("loaded")

    def begin(self) -> None:
        """Writes the loaded state and makes the first probes; called before the first forward."""
        if self.begun:
            return
        self.begun = True
        if self.fresh is not None:
            self.state("loaded")
        self._probe("start")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # A release that leaves micro-batches out ends an epoch early: `index` alone does not tell that one is over.
        if self.in_epochs or self.trace.index >= self.each:
            self.trace.epoch, self.trace.index = self.trace.epoch + 1, 0
        self.in_epochs = True
        if self.trace.index == 0:
            self.trace.epoch_edge(self.trace.epoch, "begin")

    def measured(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """Makes a training step, and measures the memory peak of the first one if the plan asks for it."""
        if self.first and self.trace.wants_memory("forward"):
            result, self.peak = peak(step)
            return result
        return step()

    def micro_batch(self, batch: Batch, told: Dict[str, Any]) -> None:
        """Writes the micro-batch whose forward and backward are done; `told` are fields of its event."""
        logits, cache = self.output
        output = hf_model.sums(self.trainer.model, batch, logits)
        recomputes = hf_model.recomputes(self.trainer.model)
        losses = summed(output.losses, output.weights)
        self.trace.micro_batch(
            self.trace.epoch, self.trace.index, batch, losses, cache_bytes=cache, checkpointing=recomputes, **told
        )
        if self.first and self.peak is not None:
            self.trace.memory("forward", heap_peak_bytes=self.peak)
        self.first = False
        self.output = (None, 0)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stop(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trace.state_is_due():
            self.state("update")
        for name, flag in (("evaluate_every", "should_evaluate"), ("save_every", "should_save")):
            every = self.plan.get(name)
            if every and self.trace.step % every == 0:
                setattr(control, flag, True)
        self._stop(control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.trace.checkpoint("saved", str(Path(args.output_dir) / f"checkpoint-{state.global_step}"))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.trace.index == self.each or not self.stopped:
            self.trace.epoch_edge(self.trace.epoch, "end")

    def end(self) -> None:
        """Makes the last probes and writes the last state; called after training."""
        self.begin()
        self._probe("end")
        self.state("end")
        self.trace.end("stopped" if self.stopped else "done")

    def state(self, at: str) -> None:
        taken = self.trainer.lr_scheduler.last_epoch if self.trainer.lr_scheduler is not None else 0
        self.trace.state(at, taken, self.trace.window())

    def _probe(self, at: str) -> None:
        model = self.trainer.model
        probes.make(self.plan, at, model, lambda batch: hf_model.forward(model, batch), self.trace)

    def _stop(self, control: Any) -> None:
        stop = self.plan.get("stop")
        if stop and (self.trace.epoch, self.trace.index) == (stop["epoch"], stop["micro_batches"]):
            self.stopped = control.should_training_stop = True
            control.should_save = bool(stop.get("save"))


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    torch.set_num_threads(1)
    # transformers releases from before torch 2.6 load their own optimizer and random state as pickles.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    start = plan.get("start") or {}
    place = _newest(Path(start["from"])) if start else None
    weights = place if start.get("what") == "weights" else None
    model = hf_model.build(plan, weights)
    trace = RunTrace(plan, writer, description, description["contract"])
    follower = Follower(plan, trace)
    with TemporaryDirectory() as unsaved:
        trainer = TracedTrainer(
            trace,
            follower,
            model=model,
            args=arguments(plan, unsaved),
            data_collator=Collator(plan),
            train_dataset=Samples(plan),
            eval_dataset=Samples(plan, "evaluation") if plan.get("evaluate_every") else None,
        )
        model.register_forward_hook(follower.watch_forward)
        if weights is None and place is not None:
            follower.loaded = str(place)
            trainer.train(resume_from_checkpoint=str(place))
        else:
            follower.fresh = str(weights) if weights is not None else None
            trainer.train()
        follower.end()


def _newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda it: int(it.name.rsplit("-", 1)[1]))
