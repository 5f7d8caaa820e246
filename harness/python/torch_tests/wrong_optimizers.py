"""The plain adapter with another optimizer than the plan's: `python -m torch_tests.wrong_optimizers WHICH describe|run`."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict

import torch

from traintrue.adapters import plain_loop
from traintrue.adapters.protocol import main

# From the groups and settings of the right one, another.
Wrong = Callable[[Any, Dict[str, Any]], torch.optim.Optimizer]


def _decaying(decay: Callable[[float, bool], float]) -> Wrong:
    """AdamW with the decay that `decay` makes of the plan's and of whether a group is of vectors."""

    def make(groups: Any, settings: Dict[str, Any]) -> torch.optim.Optimizer:
        planned = settings.get("weight_decay", 0.0)
        of_vectors = [{**group, "weight_decay": decay(planned, "weight_decay" in group)} for group in groups]
        return torch.optim.AdamW(of_vectors, **settings)

    return make


WRONG: Dict[str, Wrong] = {
    "right": lambda groups, settings: torch.optim.AdamW(groups, **settings),
    "sgd": lambda groups, settings: torch.optim.SGD([{"params": it["params"]} for it in groups], lr=settings["lr"]),
    "adam": lambda groups, settings: torch.optim.Adam(groups, **settings),
    "betas-swapped": lambda groups, settings: torch.optim.AdamW(groups, **{**settings, "betas": settings["betas"][::-1]}),
    "another-eps": lambda groups, settings: torch.optim.AdamW(groups, **{**settings, "eps": 1e-3}),
    "vectors-decay": _decaying(lambda planned, _: planned),
    "nothing-decays": _decaying(lambda _planned, _: 0.0),
    "decay-twice": _decaying(lambda planned, is_vectors: 0.0 if is_vectors else 2 * planned),
}


class Loop(plain_loop.Loop):
    """The loop with the optimizer that is asked for."""

    def build(self) -> None:
        super().build()
        groups = [{name: group[name] for name in ("params", "weight_decay") if name in group} for group in self.optimizer.param_groups]
        # The first group is of matrices, and has the plan's decay from the settings.
        groups[0].pop("weight_decay")
        self.optimizer = WRONG[which](groups, self.adamw())


if __name__ == "__main__":
    which = sys.argv.pop(1)
    plain_loop.Loop = Loop
    raise SystemExit(main(["plain", *sys.argv[1:]]))
