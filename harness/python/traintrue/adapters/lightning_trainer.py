"""Lightning's `Trainer` with automatic optimisation, driven through a module's hooks."""

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
from .schedule import micro_batches, multiplier, updates
from .tiny import Tiny, group_of
from .told import Told, summed


class Order(Sampler):
    """The plan's micro-batches of one epoch: an order that any epoch can be taken up in."""

    def __init__(self, plan: Plan) -> None:
        self.plan, self.epoch, self.skip = plan, 0, 0
        # Lightning's own way of saying which epoch begins is `set_epoch` of a batch sampler's sampler.
        self.sampler = self

    def set_epoch(self, epoch: int) -> None:
        """The epoch that begins."""
        self.epoch = epoch

    def __iter__(self) -> Any:
        # A generator, as torch's own batch sampler is one: the epoch counts when the first batch is drawn, which in one
        # process is after Lightning has said it (lightning#21938 is about worker processes, where it is before).
        skip, self.skip = self.skip, 0
        yield from order(self.plan, self.epoch)[skip:]

    def __len__(self) -> int:
        return micro_batches(self.plan)


class Loader(DataLoader):
    """A loader that goes on inside an epoch, by the two methods that Lightning asks for."""

    def __init__(self, plan: Plan, told: Told) -> None:
        super().__init__(Samples(plan), batch_sampler=Order(plan), collate_fn=Collator(plan))
        self.told = told

    def state_dict(self) -> Dict[str, int]:
        """The place; which epoch it is in, Lightning says."""
        return {"micro_batches": self.told.index % len(self)}

    def load_state_dict(self, state: Dict[str, int]) -> None:
        """To be called before the epoch's iterator is made."""
        self.batch_sampler.skip = state["micro_batches"]


class Module(lightning.LightningModule):
    """The tiny model, and what happens around it."""

    def __init__(self, plan: Plan, told: Told) -> None:
        super().__init__()
        self.plan, self.told = plan, told
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
        self.told.attach(self.tiny, optimizer, lambda name: group_of(name, adapted))
        self.told.state("start", 0, 0)
        total = updates(self.plan, "flush")
        rates = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda taken: multiplier(self.plan, total, taken))
        self.rates = rates
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": rates, "interval": "step"}}

    def training_step(self, batch: Batch, index: int) -> torch.Tensor:
        self._begin()
        output = self.tiny(batch)
        self.now = (batch, summed(output.losses, output.weights))
        return sum(value / max(output.weights[name], 1) for name, value in output.losses.items())

    def on_after_backward(self) -> None:
        batch, losses = self.now
        self.told.micro_batch(self.told.epoch, self.told.index, batch, losses)

    def on_train_epoch_start(self) -> None:
        if self.in_epochs or self.told.index >= self.each:
            self.told.epoch, self.told.index = self.told.epoch + 1, 0
        self.in_epochs = True
        if self.told.index == 0:
            self.told.edge(self.told.epoch, "begin")

    def on_train_batch_end(self, *_: Any) -> None:
        # An update is done here where the step's count has moved on; the schedule has stepped by then.
        if self.told.held() == 0:
            if self.told.state_is_due():
                self._state("update")
            every = self.plan.get("save_every")
            if every and self.told.step % every == 0:
                self._save(Path(self.plan["save_to"]))
            every = self.plan.get("evaluate_every")
            if every and self.told.step % every == 0:
                # Not at `on_validation_start`: the loader has been begun by then.
                self.told.evaluation_begins()
        stop = self.plan.get("stop")
        if stop and (self.told.epoch, self.told.index) == (stop["epoch"], stop["micro_batches"]):
            self.stopped = self.trainer.should_stop = True
            if stop.get("save") and self.told.index < self.each:
                self._save(Path(stop["save"]))

    def validation_step(self, batch: Batch, index: int) -> None:
        output = self.tiny(batch)
        self.evaluated.append((batch["ids"].tolist(), summed(output.losses, output.weights)[0]))
        # As Lightning's documentation has it where batches are not of one size: the mean is over what `batch_size` counts.
        mean = output.losses["lm"] / output.weights["lm"]
        self.log("evaluated", mean, on_epoch=True, batch_size=output.weights["lm"])

    def on_validation_start(self) -> None:
        self.evaluated: List[Tuple[List[int], dict]] = []

    def on_validation_end(self) -> None:
        ids = [at for batch, _ in self.evaluated for at in batch]
        metric = float(self.trainer.callback_metrics["evaluated"])
        self.told.evaluation_ends(ids, [loss for _, loss in self.evaluated], metric)

    def on_train_epoch_end(self) -> None:
        if self.told.index == self.each:
            self.told.edge(self.told.epoch, "end")
            stop = self.plan.get("stop")
            if self.stopped and stop.get("save"):
                # Where Lightning's own checkpoints of an epoch are written.
                self._save(Path(stop["save"]))

    def on_load_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        self.place = checkpoint["place"]

    def on_save_checkpoint(self, checkpoint: Dict[str, Any]) -> None:
        checkpoint["place"] = [self.told.step, self.told.epoch, self.told.index]

    def on_train_start(self) -> None:
        if self.loaded is not None:
            self.told.step, self.told.epoch, self.told.index = self.place
            self.told.checkpoint("loaded", self.loaded)

    def end(self) -> None:
        """After training."""
        self._begin()
        self._probe("end")
        self._state("end")
        self.told.end("stopped" if self.stopped else "done")

    def _begin(self) -> None:
        if not self.begun:
            self.begun = True
            if self.loaded is not None:
                self._state("loaded")
            self._probe("start")

    def _state(self, at: str) -> None:
        self.told.state(at, self.rates.last_epoch, self.told.held())

    def _probe(self, at: str) -> None:
        probes.make(self.plan, at, self.tiny, lambda batch: self.tiny(batch), self.told)

    def _save(self, folder: Path) -> None:
        path = folder / f"{self.told.epoch:04}-{self.told.index:08}.ckpt"
        self.trainer.save_checkpoint(path)
        self.told.checkpoint("saved", str(path))


def train(plan: Plan, trace: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    torch.set_num_threads(1)
    torch.manual_seed(plan["seed"] % 2**63)
    told = Told(plan, trace, description, description["contract"])
    module = Module(plan, told)
    loader = Loader(plan, told)
    held_out = DataLoader(Samples(plan, "evaluation"), batch_size=plan["data"]["batch"], collate_fn=Collator(plan))
    every = plan.get("evaluate_every")
    trainer = lightning.Trainer(
        accelerator="cpu",
        max_epochs=plan["data"]["epochs"],
        accumulate_grad_batches=plan["train"]["accumulation"],
        gradient_clip_val=plan["train"].get("clip"),
        # In micro-batches, counted through from one epoch into the next.
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
