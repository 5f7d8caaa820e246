"""The plain loop with several ranks: torch's DistributedDataParallel over gloo, as its documentation uses it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from ..trace import Writer
from .data import Batch
from .plain_loop import Loop
from .plan_run import PlanRun
from .protocol import Plan
from .run_trace import Losses


class Ranks(Loop):
    """One rank, which finds the others through the environment that torchrun would set. A plan of one process is the plain loop's."""

    name = "ddp"

    def build(self) -> None:
        train = self.plan["train"]
        self.together = bool(train.get("together")) and train["world"] > 1
        self.world, self.rank = (train["world"], train["rank"]) if self.together else (1, 0)
        if self.together:
            dist.init_process_group("gloo", rank=self.rank, world_size=self.world)
        super().build()
        self.wrapped = DistributedDataParallel(self.model) if self.together else self.model
        if self.together:
            # After the weights, which are those of the seed: each rank drops units of its own.
            torch.manual_seed((self.plan["seed"] * 1_000 + self.rank + 1) % 2**63)

    def step(self, batch: Batch) -> Losses:
        apart = self.together and not self.closes()
        with self.wrapped.no_sync() if apart else contextlib.nullcontext():
            return super().step(batch)

    def forward(self, batch: Batch) -> Any:
        # Evaluations and probes are each rank's own.
        return (self.wrapped if torch.is_grad_enabled() and self.model.training else self.model)(batch)

    def weights(self) -> Dict[str, float]:
        own = super().weights()
        if not self.together:
            return own
        all_ranks = torch.tensor(list(own.values()), dtype=torch.float64)
        dist.all_reduce(all_ranks)
        # DistributedDataParallel divides by the number of ranks.
        return dict(zip(own, (all_ranks / self.world).tolist()))

    def evaluate(self, batches: Sequence[Batch]) -> Tuple[List[Losses], float]:
        losses, metric = super().evaluate(batches[self.rank :: self.world])
        if self.together:
            sums = torch.tensor([sum(it["lm"][at] for it in losses) for at in (0, 1)], dtype=torch.float64)
            dist.all_reduce(sums)
            metric = float(sums[0] / max(float(sums[1]), 1.0))
        return losses, metric

    # Checkpoints: each rank has a folder of its own, and none goes on before all have written theirs.

    def save(self, root: Path) -> Path:
        saved = super().save(self._own(root))
        if self.together:
            dist.barrier()
        return saved

    def load(self, root: Path, what: str) -> Path:
        return super().load(self._own(root), what)

    def _own(self, root: Path) -> Path:
        own = root / f"rank-{self.rank}" if self.together else root
        own.mkdir(parents=True, exist_ok=True)
        return own


def train(plan: Plan, writer: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    PlanRun(Ranks(plan), writer).make()
    if dist.is_initialized():
        dist.destroy_process_group()
