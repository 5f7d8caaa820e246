"""Lightning's `Trainer` with automatic optimization, driven through the hooks of a module."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import lightning
import torch
from torch.utils.data import DataLoader, Sampler

from ..trace import Writer
from . import probes
from .data import Batch, Collator, Samples, order
from .protocol import Plan
from .run_trace import RunTrace, summed
from .schedule import micro_batches, multiplier, updates
from .tiny import Tiny, group_of


class Order(Sampler):
    """The plan's micro-batches of one epoch: a batch sampler that can start inside any epoch."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.epoch, self.skip = plan, 0, 0
        # Lightning announces an epoch to `batch_sampler.sampler.set_epoch`.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """Lightning says which epoch begins."""
        self.epoch = epoch

    def __iter__(self) -> Any:
        # A generator, like torch's own batch sampler: `self.epoch` is read when the first batch is fetched. In one process
        # that is after `set_epoch`; in worker processes it is before (lightning#21938).
        skip, self.skip = self.skip, 0
        yield from order(self.plan, self.epoch)[skip:]

    def __len__(self) -> int:
        return micro_batches(self.plan)


class Loader(DataLoader):
    """A loader that can resume inside an epoch: Lightning saves and restores it through these two methods."""

    def __init__(self, plan: Plan, trace: RunTrace) -> None:
        super().__init__(Samples(plan), batch_sampler=Order(plan), collate_fn=Collator(plan))
        self.trace = trace

    def state_dict(self) -> Dict[str, int]:
        """The place in the epoch. Lightning saves the epoch itself."""
        return {"micro_batches": self.trace.index % len(self)}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """Lightning calls this before it makes the epoch's iterator."""
        self.batch_sampler.skip = state["micro_batches"]


class Module(lightning.LightningModule):
    """The tiny model, its optimizer, and the hooks that write the trace."""

    def __init__(self, plan: Plan, trace: RunTrace) -> None:
        super().__init__()
        self.plan, self.trace = plan, trace
        self.tiny = Tiny(plan)
        self.each = micro_batches(plan)
        self.loaded: Optional[str] = None
        self.begun = self.in_epochs = self.stopped = False

    def configure_optimizers(self) -> Dict[str, Any]:
        asked = self.plan["train"]["optimizer"]
        trained = [it for it in self.tiny.parameters() if it.requires_grad]
        groups = [
            {"params": [it for it in trained if it.dim() > 1], "weight_decay": asked["decay"]},
            {"params": [it for it in trained if it.dim() < 2], "weight_decay": 0.0},
        ]
        optimizer = torch.optim.AdamW(groups, lr=asked["lr"], betas=tuple(asked["betas"]), eps=asked["eps"])
        adapted = bool(self.plan["train"].get("adapters"))
        self.trace.attach(self.tiny, optimizer, lambda name: group_of(name, adapted))
        self.trace.state("start", 0, 0)
        total = updates(self.plan, "flush")
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda taken: multiplier(self.plan, total, taken))
        self.rates = rates
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self._begin()
        with self.trace.telling(self.trace.index, batch) as told:
            output = self.tiny(batch)
        self.now = (batch, summed(output.losses, output.weights), told.fields())
        return sum(value / max(output.weights[name], 1) for name, value in output.losses.items())

    def on_after_backward(self) -> None:
        batch, losses, told = self.now
        self.trace.micro_batch(self.trace.epoch, self.trace.index, batch, losses, **told)

    def on_train_epoch_start(self) -> None:
        if self.in_epochs or self.trace.index >= self.each:
            self.trace.epoch, self.trace.index = self.trace.epoch + 1, 0
        self.in_epochs = True
        if self.trace.index == 0:
            self.trace.epoch_edge(self.trace.epoch, "begin")

    def on_train_batch_end(self, *_: Any) -> None:
        # No open window: this batch ended with an update, and the schedule has stepped since.
        if self.trace.window() == 0:
            if self.trace.state_is_due():
                self._state("update")
            every = self.plan.get("save_every")
            if every and self.trace.step % every == 0:
                self._save(Path(self.plan["save_to"]))
            every = self.plan.get("evaluate_every")
            if every and self.trace.step % every == 0:
                # Not in `on_validation_start`: by then the validation loader has started and may have drawn random numbers.
                self.trace.evaluation_begins()
        stop = self.plan.get("stop")
        if stop and (self.trace.epoch, self.trace.index) == (stop["epoch"], stop["micro_batches"]):
            self.stopped = self.trainer.should_stop = True
            if stop.get("save") and self.trace.index < self.each:
                self._save(Path(stop["save"]))

    def validation_step(self, batch: Batch, index: int) -> None:
        output = self.tiny(batch)
        self.evaluated.append((batch["ids"].tolist(), summed(output.losses, output.weights)[0]))
        # Batches differ in size. Lightning weights each logged value by `batch_size`, here the supervised tokens.
        mean = output.losses["lm"] / max(output.weights["lm"], 1)
        self.log("evaluated", mean, on_epoch=True, batch_size=output.weights["lm"])

    def on_validation_start(self) -> None:
        self.evaluated: List[Tuple[List[int], dict]] = []

    def on_validation_end(self) -> None:
        ids = [at for batch, _ in self.evaluated for at in batch]
        metric = float(self.trainer.callback_metrics["evaluated"])
        self.trace.evaluation_ends(ids, [loss for _, loss in self.evaluated], metric)

    def on_train_epoch_end(self) -> None:
        if self.trace.index == self.each:
            self.trace.epoch_edge(self.trace.epoch, "end")
            stop = self.plan.get("stop")
            if self.stopped and stop.get("save"):
                # In this hook Lightning's own ModelCheckpoint saves at an epoch's end.
                self._save(Path(stop["save"]))

    def on_load_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        self.place = checkpoint["place"]

    def on_save_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        checkpoint["place"] = [self.trace.step, self.trace.epoch, self.trace.index]

    def on_train_start(self) -> None:
        if self.loaded is not None:
            self.trace.resume(*self.place)
            self.trace.checkpoint("loaded", self.loaded)

    def end(self) -> None:
        """Makes the last probes and writes the last state; called after training."""
        self._begin()
        self._probe("end")
        self._state("end")
        self.trace.end("stopped" if self.stopped else "done")

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            if self.loaded is not None:
                self._state("loaded")
            self._probe("start")

    def _state(self, at: str) -> None:
        self.trace.state(at, self.rates.last_epoch, self.trace.window())

    def _probe(self, at: str) -> None:
        probes.make(self.plan, at, self.tiny, lambda batch: self.tiny(batch), self.trace)

    def _save(self, folder: Path) -> None:
        path = folder / f"{self.trace.epoch:04}-{self.trace.index:08}.ckpt"
        self.trainer.save_checkpoint(path)
        self.trace.checkpoint("saved", str(path))


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    torch.set_num_threads(1)
    torch.manual_seed(plan["seed"] % 2**63)
    trace = RunTrace(plan, writer, description, description["contract"])
    module = Module(plan, trace)
    loader = Loader(plan, trace)
    held_out = DataLoader(Samples(plan, "evaluation"), batch_size=plan["data"]["batch"], collate_fn=Collator(plan))
    every = plan.get("evaluate_every")
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=plan["data"]["epochs"],
        accumulate_grad_batches=plan["train"]["accumulation"],
        gradient_clip_val=plan["train"].get("clip"),
        # In micro-batches; with `check_val_every_n_epoch=None` the count goes on from one epoch to the next.
        val_check_interval=every * plan["train"]["accumulation"] if every else None,
        check_val_every_n_epoch=None if every else 1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    start = plan.get("start")
    path = str(max(Path(start["from"]).glob("*.ckpt"))) if start else None
    if path and start.get("what") == "weights":
        module.load_state_dict(torch.load(path, weights_only=False)["state_dict"])
        path = None
    module.loaded = path
    trainer.fit(module, loader, held_out if every else None, ckpt_path=path)
    module.end()
