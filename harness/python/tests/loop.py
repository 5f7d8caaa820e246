"""A loop over stand-ins for torch's classes that goes wrong in one place: `python -m tests.loop HOW TRACE`."""

from __future__ import annotations

import math
import sys

import traintrue

from .fakes import Loader, Model, Optimizer, Tensor, Tensors

EPOCHS, ACCUMULATION, CLIP, PEAK, WARMUP = 2, 2, 1.0, 0.1, 1
UPDATES = EPOCHS * 2


def rate(step: int) -> float:
    """A linear schedule in torch's order: the first update of the warm-up has rate 0."""
    if step < WARMUP:
        return PEAK * step / WARMUP
    return PEAK * max(0.0, 1 - (step - WARMUP) / (UPDATES - WARMUP))


def main(how: str, path: str) -> None:
    """Trains and records."""
    model, tensors, loader = Model(), Tensors(), Loader()
    model.dropout = tensors
    held = [it for name, it in model.parameters.items() if (how, name) != ("not-in-the-optimizer", "bias")]
    optimizer = Optimizer(held, lr=PEAK)
    declared = {"epochs": EPOCHS, "accumulation": ACCUMULATION, "clip": CLIP, "schedule": "linear", "warmup": WARMUP}
    taken = 0
    with traintrue.record(path, model, optimizer, loader, lr=PEAK, tensors=tensors, digest_every=1, **declared):
        for _ in range(EPOCHS):
            for index, batch in enumerate(loader):
                model(batch, loss=float("nan") if how == "nan" and index == 1 else 1.0)
                model.backward()
                optimizer.param_groups[0]["lr"] = rate(taken)
                taken += how == "schedule-a-micro-batch"
                last = index == 2
                if (index + 1) % ACCUMULATION and not (last and how != "tail-dropped"):
                    continue
                norm = math.sqrt(sum(tensors.norm(it.grad) ** 2 for it in held))
                for parameter in held if how != "not-clipped" else []:
                    parameter.grad = Tensor([value * min(1.0, CLIP / norm) for value in parameter.grad.values])
                optimizer.step()
                taken += how != "schedule-a-micro-batch"
                if how != "never-cleared":
                    optimizer.zero_grad()
            if how == "tail-dropped":
                optimizer.zero_grad()
            model.training, tensors.enabled = how == "evaluated-in-training-mode", False
            model("held out")
            model("held out, too")
            model.training, tensors.enabled = True, True


if __name__ == "__main__":
    main(*sys.argv[1:])
