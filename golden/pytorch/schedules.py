"""The learning-rate schedules of transformers, stepped a thousand times."""

import warnings
from pathlib import Path

import torch
from transformers import (
    get_constant_schedule_with_warmup,
    get_cosine_schedule_with_warmup,
    get_linear_schedule_with_warmup,
)

from golden import figure, write

STEPS = 1000
# The last hundred steps of these lie after the end. The cosine of transformers rises again there, and the trainer's stays
# at 0: it is compared up to its end.
CASES = [("linear", 100, 900), ("constant", 100, 900), ("cosine", 100, STEPS), ("cosine", 0, STEPS)]


def scheduled(name: str, optimizer, warmup: int, total: int):
    """The schedule of a plan's name for it."""
    if name == "constant":
        return get_constant_schedule_with_warmup(optimizer, warmup)
    of = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[name]
    return of(optimizer, warmup, total)


def rates(name: str, warmup: int, total: int) -> list[float]:
    """The rates of a peak of 1 after 0, 1, … steps. Fifteen digits: a cosine's last bit is the C library's."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = scheduled(name, optimizer, warmup, total)
    seen = []
    for _ in range(STEPS):
        seen.append(figure(schedule.get_last_lr()[0], 15))
        optimizer.step()
        schedule.step()
    return seen


def generate(folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        document = [{"name": name, "warmup": w, "updates": n, "rates": rates(name, w, n)} for name, w, n in CASES]
    write(folder, "schedules", {"schedules": document})
