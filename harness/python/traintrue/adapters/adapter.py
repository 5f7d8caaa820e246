"""A trainer of your own that follows plans: say what it is, make one micro-batch, save and load.

    class Mine(Adapter):
        trainer = "my-trainer 1.0"

        def build(self): self.model, self.optimizer = ...
        def step(self, batch): ...

    if __name__ == "__main__":
        Mine.main()
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, List, Mapping, Sequence, Tuple

import torch

from ..declared import CONTRACT
from .data import NEXT_TOKENS, Batch, Collator, Samples, order, targets, targets_of
from .plan_run import PlanRun
from .protocol import VERBS, Declined, Plan, answer
from .run_trace import Losses, RunTrace
from .schedule import micro_batches, multiplier, updates
from .tiny import Output, of_tokens

__all__ = ["Adapter", "Batch", "Declined", "Losses", "Output", "Plan", "of_tokens"]


class Adapter:
    """One run of a plan. `build` and `step` are required; the rest has defaults, or belongs to a capability."""

    # Name and version.
    trainer = "unnamed"
    # What the trainer can do: the words of the protocol's README. A plan asks for nothing else.
    capabilities: Sequence[str] = ()
    # Conventions other than torch's usual ones: `tail`, `normaliser`, `first_lr`, `rows_per_sample`, `targets`, ...
    conventions: Mapping[str, Any] = {}
    # The conventions that a plan may change; for the capability `contract`.
    adjustable: Sequence[str] = ()
    device = "cpu"
    # Whether a fork of the process that has imported the script is as good as a fresh process: no threads, no device in use,
    # no random number drawn.
    serves = False

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    trace: RunTrace

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        asked = {name: plan.get("contract", {}).get(name) for name in self.adjustable}
        self.contract = {**self.describe()["contract"], **{name: it for name, it in asked.items() if it is not None}}
        self.samples, self.collate = Samples(plan), Collator(plan)
        self.accumulation = plan["train"]["accumulation"]
        # Micro-batches per epoch, and updates of the whole run.
        self.each, self.total = micro_batches(plan), updates(plan, self.contract["tail"])
        # The place of this micro-batch, and the micro-batches since the last update.
        self.epoch = self.index = self.window = 0

    @classmethod
    def describe(cls) -> Dict[str, Any]:
        """The answer to `describe`."""
        unknown = sorted(set(cls.conventions) - {*CONTRACT, "targets"})
        if unknown:
            raise ValueError(f"conventions: unknown {', '.join(unknown)}; expected some of {', '.join(CONTRACT)}, targets")
        contract = {**CONTRACT, "deterministic": True, **cls.conventions}
        description = {"trainer": cls.trainer, "capabilities": list(cls.capabilities), "contract": contract}
        return {**description, "serve": True} if cls.serves and hasattr(os, "fork") else description

    @classmethod
    def main(cls) -> None:
        """The main function of a script: answers its last argument. Those before it are left in `sys.argv` for the trainer."""
        if sys.argv[-1] not in VERBS or len(sys.argv) < 2:
            raise SystemExit(f"usage: {sys.argv[0]} [ARGUMENTS] {{{','.join(VERBS)}}}")
        verb = sys.argv.pop()
        raise SystemExit(answer(verb, cls.describe(), lambda plan, writer: PlanRun(cls(plan), writer).make()))

    # What a trainer says.

    def build(self) -> None:
        """Sets `model` and `optimizer`. May raise `Declined`."""
        raise NotImplementedError

    def step(self, batch: Batch) -> Losses:
        """One micro-batch: forward, backward, and the update when it closes the window. Returns the losses by name."""
        raise NotImplementedError

    def save(self, root: Path) -> Path:
        """Writes everything that the next update depends on below `root`. Returns where."""
        raise NotImplementedError("the capability `resume` needs `save`")

    def load(self, root: Path, what: str) -> Path:
        """Loads the newest checkpoint below `root`: `everything`, or the `weights`. Returns where it was."""
        raise NotImplementedError("the capability `resume` needs `load`")

    def forward(self, batch: Batch) -> Output:
        """Logits and losses of a batch, for probes and evaluations."""
        return self.model(batch)

    def evaluate(self, batches: Sequence[Batch]) -> Tuple[List[Losses], float]:
        """The losses of each batch, and the figure that the trainer reports; by default the mean over all targets."""
        self.model.eval()
        with torch.no_grad():
            sums = [(float(self.forward(batch).losses["lm"]), targets(batch, self.counted())) for batch in batches]
        self.model.train()
        # The mean over targets, not over batches: the last batch is smaller.
        metric = sum(total for total, _ in sums) / max(sum(weight for _, weight in sums), 1)
        return [{"lm": it} for it in sums], metric

    def group(self, name: str) -> str:
        """The group of a parameter: `base`, `adapter`, or a head's name."""
        return "base"

    def parts(self) -> Mapping[str, Any]:
        """What a checkpoint must bring back beside parameters, optimizer and torch's random state, by name: `scheduler`,
        `scaler`, `sampler`, `ema`. By default the model's buffers, where it has any that are saved."""
        parameters = {name for name, _ in self.model.named_parameters(remove_duplicate=False)}
        saved = {name: it for name, it in self.model.state_dict().items() if name not in parameters}
        return {"buffers": saved} if saved else {}

    def schedule_step(self) -> int:
        """Steps that the schedule has taken."""
        return self.trace.step

    def batches(self) -> Iterable[Batch]:
        """The batches of this epoch that are still to come: dictionaries with `input_ids`, `labels`, `ids` …"""
        return (self.collate([self.samples[at] for at in group]) for group in self.order()[self.index :])

    # What a trainer may ask.

    def order(self, later: int = 0) -> List[List[int]]:
        """The samples of each micro-batch of this epoch, or of one `later`."""
        return order(self.plan, self.epoch + later)

    def closes(self) -> bool:
        """Whether this micro-batch is the last of its window."""
        last = self.index + 1 == self.each and self.contract["tail"] == "flush"
        return last or self.window + 1 == self.accumulation

    def window_begins(self) -> int:
        """The index of the open window's first micro-batch; negative if the window began in the epoch before."""
        return self.index - self.window

    def window_samples(self) -> List[List[int]]:
        """The samples of each micro-batch of the open window, those to come included: the plan's order tells them, so that
        each micro-batch is divided by what its window holds when it is made."""
        groups, first, size = self.order(), self.window_begins(), self.accumulation
        window = [group for at, group in enumerate(groups) if first <= at < first + size]
        if self.contract["tail"] == "carry":
            if first < 0:
                window = self.order(-1)[first:] + window
            if first + size > len(groups) and self.epoch + 1 < self.plan["data"]["epochs"]:
                window += self.order(1)[: first + size - len(groups)]
        return window

    def window_targets(self) -> int:
        """The targets of the open window, those to come included; at least 1. The convention `targets` says what counts as one."""
        lengths = [len(self.samples[at]["tokens"]) for group in self.window_samples() for at in group]
        return max(sum(targets_of(length, self.counted()) for length in lengths), 1)

    def counted(self) -> str:
        """The convention `targets`: `next-tokens`, `tokens` or `samples`."""
        return self.contract.get("targets", NEXT_TOKENS)

    def adamw(self) -> Dict[str, Any]:
        """The plan's settings of AdamW, as torch's arguments. The decay is meant for matrices: see `groups`."""
        asked = self.plan["train"]["optimizer"]
        return {"lr": asked["lr"], "betas": tuple(asked["betas"]), "eps": asked["eps"], "weight_decay": asked["decay"]}

    def groups(self) -> List[Dict[str, Any]]:
        """What trains, as a plan wants it: matrices, which decay, and vectors (norms, biases), which do not."""
        trained = [it for it in self.model.parameters() if it.requires_grad]
        vectors = {"params": [it for it in trained if it.dim() < 2], "weight_decay": 0.0}
        return [{"params": [it for it in trained if it.dim() > 1]}, vectors]

    def rate(self) -> float:
        """The learning rate that the plan gives the next update."""
        taken = self.trace.step + (self.contract["first_lr"] == "nonzero")
        return self.plan["train"]["optimizer"]["lr"] * multiplier(self.plan, self.total, taken)

    def set_rate(self) -> None:
        """Gives every group of the optimizer the plan's rate."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()

    def place(self) -> List[int]:
        """The place in the run, to be saved: updates, epoch, micro-batches of it, and what the open window holds."""
        return [self.trace.step, self.epoch, self.index, self.window, self.trace.targets]

    def resume(self, place: Sequence[int]) -> None:
        """Continues at a place that was saved."""
        step, self.epoch, self.index, self.window, supervised = place
        self.trace.resume(step, self.epoch, self.index)
        self.trace.resume_window(self.window, supervised)

    def new_folder(self, root: Path) -> Path:
        """A new folder below `root`, named by the place. Until `finished` it is called `partial`."""
        folder = root / "partial"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def finished(self, folder: Path) -> Path:
        """Gives a folder its final name. A process that is killed before this leaves `partial`, and no half checkpoint."""
        final = folder.with_name(f"{self.trace.step:08}-{self.epoch}-{self.index}")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(folder, final)
        return final

    def newest_folder(self, root: Path) -> Path:
        """The latest finished folder below `root`."""
        places = (it for it in root.iterdir() if it.name != "partial")
        return max(places, key=lambda it: [int(part) for part in it.name.split("-")])
