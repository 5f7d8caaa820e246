"""Hugging Face's `Trainer`, driven through its arguments, callbacks and overridable methods alone."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import torch
from transformers import Trainer, TrainerCallback, TrainingArguments

from ..trace import Writer, loss
from . import hf_model, probes
from .data import Batch, Collator, Samples
from .peak import peak
from .protocol import Plan
from .schedule import micro_batches
from .told import Told, summed

SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


class ToldTrainer(Trainer):
    """A Trainer whose micro-batches and evaluations are written down."""

    told: Told
    follow: "Follow"

    def _get_train_sampler(self, *args: Any, **more: Any) -> Any:
        if self.follow.plan["data"]["shuffle"]:
            return super()._get_train_sampler(*args, **more)
        return torch.utils.data.SequentialSampler(self.train_dataset)

    def create_optimizer(self, *args: Any, **more: Any) -> Any:
        optimizer = super().create_optimizer(*args, **more)
        adapted = bool(self.follow.plan["train"].get("adapters"))
        self.told.attach(self.model, self.optimizer, lambda name: hf_model.group_of(name, adapted))
        self.told.state("start", 0, 0)
        return optimizer

    def _load_rng_state(self, *args: Any, **more: Any) -> None:
        super()._load_rng_state(*args, **more)
        self.follow.all_loaded()

    def training_step(self, model: Any, inputs: Batch, *args: Any, **more: Any) -> torch.Tensor:
        self.follow.begin()
        batch = {name: value.clone() for name, value in inputs.items()}
        inputs.pop("ids")
        result = self.follow.measured(lambda: super(ToldTrainer, self).training_step(model, inputs, *args, **more))
        self.follow.micro_batch(batch)
        return result

    def prediction_step(self, model: Any, inputs: Batch, *args: Any, **more: Any) -> Any:
        batch = {name: value.clone() for name, value in inputs.items()}
        inputs.pop("ids")
        result = super().prediction_step(model, inputs, *args, **more)
        self.follow.evaluated.append((batch, self.follow.output))
        return result

    def evaluate(self, *args: Any, **more: Any) -> Dict[str, float]:
        metrics: Dict[str, float] = {}

        def whole() -> tuple:
            self.follow.evaluated = []
            metrics.update(super(ToldTrainer, self).evaluate(*args, **more))
            sums = [(batch, hf_model.sums(self.model, batch, logits)) for batch, (logits, _) in self.follow.evaluated]
            ids = [at for batch, _ in sums for at in batch["ids"].tolist()]
            losses = [loss("lm", float(it.losses["lm"]), it.weights["lm"]) for _, it in sums]
            return ids, losses, metrics["eval_loss"]

        self.told.evaluation(whole)
        return metrics


class Follow(TrainerCallback):
    """Follows a Trainer through its run: where it is, when it stops, what it saves."""

    def __init__(self, plan: Plan, told: Told) -> None:
        self.plan, self.told = plan, told
        self.each, self.window = micro_batches(plan), plan["train"]["accumulation"]
        self.trainer: Optional[ToldTrainer] = None
        self.loaded: Optional[str] = None
        self.fresh: Optional[str] = None
        self.begun = self.in_epochs = self.stopped = False
        self.first, self.peak = True, None
        self.output: Any = (None, 0)
        self.evaluated: List[tuple] = []

    def watch_forward(self, _module: Any, _inputs: Any, output: Any) -> None:
        """What the model gave last: its logits, and the bytes of a cache that it filled."""
        self.output = (output.logits.detach(), _cache_bytes(getattr(output, "past_key_values", None)))

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        told = self.told
        if self.loaded is not None:
            # As the Trainer itself finds its place again: by the updates that it plans an epoch.
            planned = max(state.max_steps // self.plan["data"]["epochs"], 1)
            told.step = state.global_step
            told.epoch, told.index = state.global_step // planned, state.global_step % planned * self.window
        if self.loaded is not None or self.fresh is not None:
            told.checkpoint("loaded", self.loaded or self.fresh)

    def all_loaded(self) -> None:
        """The random streams come back last, at an epoch's edge before its loader is begun: that draws from them."""
        if self.loaded is not None:
            self.state("loaded")

    def begin(self) -> None:
        """Before the first forward."""
        if self.begun:
            return
        self.begun = True
        if self.fresh is not None:
            self.state("loaded")
        self._probe("start")

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        # Where a release leaves micro-batches out, an epoch ends before its length says so.
        if self.in_epochs or self.told.index >= self.each:
            self.told.epoch, self.told.index = self.told.epoch + 1, 0
        self.in_epochs = True
        if self.told.index == 0:
            self.told.edge(self.told.epoch, "begin")

    def measured(self, step: Callable[[], torch.Tensor]) -> torch.Tensor:
        """The first forward and backward with their memory's peak, where the plan asks for it."""
        if self.first and self.told.samples_memory("forward"):
            result, self.peak = peak(step)
            return result
        return step()

    def micro_batch(self, batch: Batch) -> None:
        """A forward and backward are done."""
        logits, cache = self.output
        output = hf_model.sums(self.trainer.model, batch, logits)
        recomputes = _recomputes(self.trainer.model)
        losses = summed(output.losses, output.weights)
        self.told.micro_batch(
            self.told.epoch, self.told.index, batch, losses, cache_bytes=cache, checkpointing=recomputes
        )
        if self.first and self.peak is not None:
            self.told.memory("forward", heap_peak_bytes=self.peak)
        self.first = False
        self.output = (None, 0)

    def on_substep_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._stop(control)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.told.state_is_due():
            self.state("update")
        for name, flag in (("evaluate_every", "should_evaluate"), ("save_every", "should_save")):
            every = self.plan.get(name)
            if every and self.told.step % every == 0:
                setattr(control, flag, True)
        self._stop(control)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.told.checkpoint("saved", str(Path(args.output_dir) / f"checkpoint-{state.global_step}"))

    def on_epoch_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.told.index == self.each or not self.stopped:
            self.told.edge(self.told.epoch, "end")

    def end(self) -> None:
        """After training."""
        self.begin()
        self._probe("end")
        self.state("end")
        self.told.end("stopped" if self.stopped else "done")

    def state(self, at: str) -> None:
        taken = self.trainer.lr_scheduler.last_epoch if self.trainer.lr_scheduler is not None else 0
        self.told.state(at, taken, self.told.held())

    def _probe(self, at: str) -> None:
        model = self.trainer.model
        probes.make(self.plan, at, model, lambda batch: hf_model.forward(model, batch), self.told)

    def _stop(self, control: Any) -> None:
        stop = self.plan.get("stop")
        if stop and (self.told.epoch, self.told.index) == (stop["epoch"], stop["micro_batches"]):
            self.stopped = control.should_training_stop = True
            control.should_save = bool(stop.get("save"))


def arguments(plan: Plan) -> TrainingArguments:
    """The plan in the Trainer's own words; what a version does not know any more is left out."""
    train, data, optimizer = plan["train"], plan["data"], plan["train"]["optimizer"]
    stop = plan.get("stop") or {}
    wanted = {
        "output_dir": stop.get("save") or plan.get("save_to") or "unused-output",
        "num_train_epochs": data["epochs"],
        "per_device_train_batch_size": data["batch"],
        "per_device_eval_batch_size": data["batch"],
        "gradient_accumulation_steps": train["accumulation"],
        "learning_rate": optimizer["lr"],
        "adam_beta1": optimizer["betas"][0],
        "adam_beta2": optimizer["betas"][1],
        "adam_epsilon": optimizer["eps"],
        "weight_decay": optimizer["decay"],
        "optim": "adamw_torch",
        "max_grad_norm": train.get("clip") or 0.0,
        "lr_scheduler_type": SCHEDULES[train["schedule"]["name"]],
        "warmup_steps": train["schedule"]["warmup"],
        "max_steps": train["schedule"].get("updates") or -1,
        "gradient_checkpointing": train.get("checkpointing", False),
        "dataloader_drop_last": data["drop_last"],
        "seed": plan["seed"] % 2**32,
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "prediction_loss_only": True,
    }
    known = {field.name for field in dataclasses.fields(TrainingArguments)}
    return TrainingArguments(**{name: value for name, value in wanted.items() if name in known})


def train(plan: Plan, trace: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    torch.set_num_threads(1)
    # Releases from before torch 2.6 load their own optimizer and random state as pickles.
    os.environ.setdefault("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    start = plan.get("start") or {}
    place = _newest(Path(start["from"])) if start else None
    weights = place if start.get("what") == "weights" else None
    model = hf_model.build(plan, weights)
    told = Told(plan, trace, description, description["contract"])
    follow = Follow(plan, told)
    settings = {"model": model, "args": arguments(plan), "data_collator": Collator(plan), "callbacks": [follow]}
    ToldTrainer.told, ToldTrainer.follow = told, follow
    trainer = ToldTrainer(
        train_dataset=Samples(plan), eval_dataset=Samples(plan, "evaluation") if plan.get("evaluate_every") else None,
        **settings,
    )
    follow.trainer = trainer
    model.register_forward_hook(follow.watch_forward)
    if weights is None and place is not None:
        follow.loaded = str(place)
        trainer.train(resume_from_checkpoint=str(place))
    else:
        follow.fresh = str(weights) if weights is not None else None
        trainer.train()
    follow.end()


def _newest(folder: Path) -> Path:
    return max(folder.glob("checkpoint-*"), key=lambda it: int(it.name.rsplit("-", 1)[1]))


def _recomputes(model: torch.nn.Module) -> bool:
    """Whether a model recomputes activations, under the newer name or the older."""
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(getattr(model, next(name for name in names if hasattr(model, name))))


def _cache_bytes(cache: Any) -> int:
    """Bytes of a key-value cache, in any of the forms that it has had."""
    if cache is None:
        return 0
    if hasattr(cache, "layers"):
        held = [value for layer in cache.layers for value in (layer.keys, layer.values)]
    elif hasattr(cache, "key_cache"):
        held = [*cache.key_cache, *cache.value_cache]
    else:
        held = [value for layer in cache for value in layer]
    return sum(value.numel() * value.element_size() for value in held if torch.is_tensor(value))

