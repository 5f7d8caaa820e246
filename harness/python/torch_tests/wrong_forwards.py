"""The plain adapter with something wrong between its data and its loss: `python -m torch_tests.wrong_forwards WHICH describe|run`."""

from __future__ import annotations

import math
import sys
from typing import Any, Callable, Dict, Tuple

import torch
from torch.nn import functional as F

from traintrue.adapters import adapter, data, plain_loop, tiny
from traintrue.adapters.protocol import main
from traintrue.batches import IGNORED


def _loss(shift: int = 1, of: Callable[[torch.Tensor], torch.Tensor] = lambda logits: logits, times: float = 1.0, **more: Any) -> None:
    """Puts another loss in the place of the right one."""

    def wrong(logits: torch.Tensor, batch: data.Batch) -> tiny.Output:
        labels = batch["labels"][:, shift:]
        flat = of(logits[:, : logits.shape[1] - shift]).float().flatten(0, 1)
        lm = times * F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="sum", **more)
        return tiny.Output(logits, None, {"lm": lm}, {"lm": int((batch["labels"][:, 1:] != IGNORED).sum())})

    tiny.of_tokens = wrong


def _order(wrong: Callable[[Dict[str, Any], int], Tuple[Dict[str, Any], int]]) -> None:
    right = data.order
    adapter.order = lambda plan, epoch: right(*wrong(plan, epoch))


def _before_each_step(do: Callable[[Any], None]) -> None:
    step = plain_loop.Loop.forward

    def forward(self: Any, batch: data.Batch) -> tiny.Output:
        do(self)
        return step(self, batch)

    plain_loop.Loop.forward = forward


def _model(change: Callable[[torch.nn.Module], None]) -> None:
    right = plain_loop.Loop.new_model

    def new_model(self: Any) -> torch.nn.Module:
        model = right(self)
        change(model)
        return model

    plain_loop.Loop.new_model = new_model


def _evaluated(change: Callable[[Any], Any]) -> None:
    right = adapter.Adapter.evaluate
    plain_loop.Loop.evaluate = lambda self, batches: right(self, change(batches))


def _dropouts(change: Callable[[float], float]) -> Callable[[torch.nn.Module], None]:
    def apply(model: torch.nn.Module) -> None:
        for it in model.modules():
            if isinstance(it, torch.nn.Dropout):
                it.p = change(it.p)

    return apply


def _cut(cut: Callable[[list, int], list]) -> None:
    data._cut = cut


WRONG: Dict[str, Callable[[], None]] = {
    "right": lambda: None,
    "shifted-twice": lambda: _loss(shift=2),
    "not-shifted": lambda: _loss(shift=0),
    "bits": lambda: _loss(times=1 / math.log(2)),
    "temperature": lambda: _loss(of=lambda logits: logits / 0.7),
    "softmax-twice": lambda: _loss(of=lambda logits: logits.softmax(-1)),
    "smoothed": lambda: _loss(label_smoothing=0.1),
    "half-the-rate": lambda: _model(_dropouts(lambda p: p / 2)),
    "inverted": lambda: _model(_dropouts(lambda p: 1 - p)),
    "seeded-each-time": lambda: _before_each_step(lambda _: torch.manual_seed(0)),
    "in-evaluation-mode": lambda: _before_each_step(lambda loop: loop.model.eval()),
    "one-order": lambda: _order(lambda plan, _: (plan, 0)),
    "never-shuffled": lambda: _order(lambda plan, epoch: ({**plan, "data": {**plan["data"], "shuffle": False}}, epoch)),
    "one-seed": lambda: _order(lambda plan, epoch: ({**plan, "seed": 0}, epoch)),
    "loses-the-end": lambda: _cut(lambda sample, longest: sample[:longest]),
    "loses-the-beginning": lambda: _cut(lambda sample, longest: sample[-longest:]),
    "loses-a-batch": lambda: _evaluated(lambda batches: batches[:-1]),
    "repeats-a-batch": lambda: _evaluated(lambda batches: [*batches, batches[0]]),
}

if __name__ == "__main__":
    WRONG[sys.argv.pop(1)]()
    raise SystemExit(main(["plain", *sys.argv[1:]]))
