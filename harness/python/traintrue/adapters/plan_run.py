"""Takes an adapter through a plan, and writes down what it does."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Iterator, List

from ..trace import Writer, loss
from . import probes
from .data import Batch, Samples
from .run_trace import TENSORS, RunTrace
from .tiny import Output

if TYPE_CHECKING:
    from .adapter import Adapter


class PlanRun:
    """One run: from the plan's start to its stop or its end."""

    def __init__(self, adapter: Adapter, writer: Writer) -> None:
        self.adapter, self.plan = adapter, adapter.plan
        self.trace = adapter.trace = RunTrace(self.plan, writer, adapter.describe(), adapter.contract, adapter.device)

    def make(self) -> None:
        """Makes the run."""
        self.adapter.build()
        self._attach()
        self._state("start")
        start = self.plan.get("start")
        if start:
            self._load(Path(start["from"]), start.get("what", "everything"))
        self._probe("start")
        reason = "stopped" if self._at_stop() else self._train()
        self._probe("end")
        self._state("end")
        stop = self.plan.get("stop")
        if stop and stop.get("save"):
            self._save(Path(stop["save"]))
        self.trace.end(reason)

    def _train(self) -> str:
        it = self.adapter
        while it.epoch < self.plan["data"]["epochs"]:
            if it.index == 0:
                self.trace.epoch_edge(it.epoch, "begin")
            for batch in it.batches():
                self._micro_batch(batch)
                if it.index == it.each:
                    self._end_epoch()
                if self._at_stop():
                    return "stopped"
            it.epoch, it.index = it.epoch + 1, 0
            self.trace.epoch, self.trace.index = it.epoch, 0
        return "done"

    def _micro_batch(self, batch: Batch) -> None:
        it, before, optimizer = self.adapter, self.trace.step, self.adapter.optimizer
        self.trace.around(it.epoch, it.index, batch, lambda: it.step(batch))
        if it.optimizer is not optimizer:
            raise RuntimeError(
                f"step() replaced the optimizer at micro-batch {it.index} of epoch {it.epoch}: its moments begin anew, and the "
                "updates of the new one are not seen. Make optimizers in build() and load() only"
            )
        it.index, it.window = it.index + 1, it.window + 1
        if self.trace.step > before:
            it.window = 0
            self._updated()

    def _updated(self) -> None:
        """Does what the plan asks for after an update."""
        if self.trace.state_is_due():
            self._state("update")
        if self._is_due("evaluate_every"):
            self.trace.evaluation(self._evaluate)
        if self._is_due("save_every"):
            self._save(Path(self.plan["save_to"]))

    def _is_due(self, what: str) -> bool:
        every = self.plan.get(what)
        return bool(every) and self.trace.step % every == 0

    def _end_epoch(self) -> None:
        if self.adapter.contract["tail"] == "drop" and self.adapter.window:
            self.adapter.window = 0
            self.trace.drop_window()
        self.trace.epoch_edge(self.adapter.epoch, "end")

    def _evaluate(self) -> tuple:
        held_out, size = Samples(self.plan, "evaluation"), self.plan["data"]["batch"]
        groups = [range(at, min(at + size, len(held_out))) for at in range(0, len(held_out), size)]
        with self._forwards() as seen:
            losses, metric = self.adapter.evaluate([self.adapter.collate([held_out[at] for at in group]) for group in groups])
        entries = [loss(name, TENSORS.number(total), weight) for of in losses for name, (total, weight) in of.items()]
        # An evaluation that does not go through `forward` is known by its losses, if there is one for each batch.
        all_of_them = list(range(len(held_out))) if len(losses) == len(groups) else None
        return seen or all_of_them, entries, metric

    @contextmanager
    def _forwards(self) -> Iterator[List[int]]:
        """The samples that go through the adapter's `forward` meanwhile."""
        seen: List[int] = []
        right = self.adapter.forward

        def forward(batch: Batch) -> Output:
            seen.extend(batch["ids"].tolist())
            return right(batch)

        self.adapter.forward = forward  # type: ignore[method-assign]
        try:
            yield seen
        finally:
            del self.adapter.forward

    def _attach(self) -> None:
        self.trace.attach(self.adapter.model, self.adapter.optimizer, self.adapter.group)

    def _save(self, root: Path) -> None:
        self.trace.checkpoint("saved", str(self.adapter.save(root)))

    def _load(self, root: Path, what: str) -> None:
        place = self.adapter.load(root, what)
        # The load may have made another model, other parameters or another optimizer.
        self._attach()
        self.trace.checkpoint("loaded", str(place))
        self._state("loaded")

    def _probe(self, at: str) -> None:
        probes.make(self.plan, at, self.adapter.model, self.adapter.forward, self.trace)

    def _state(self, at: str) -> None:
        self.trace.state(at, self.adapter.schedule_step(), self.adapter.window, self.adapter.parts())

    def _at_stop(self) -> bool:
        stop, it = self.plan.get("stop"), self.adapter
        return bool(stop) and self._edge(stop["epoch"], stop["micro_batches"]) == self._edge(it.epoch, it.index)

    def _edge(self, epoch: int, index: int) -> tuple:
        """The end of an epoch is the beginning of the next."""
        return (epoch, index) if index < self.adapter.each else (epoch + 1, 0)
