"""Forwards outside training: dropout off, nothing changed."""

from __future__ import annotations

from typing import Any, Callable, Dict, List

import torch
from torch.nn import functional as F

from ..batches import IGNORED
from ..trace import number
from .data import Batch, Collator, Samples
from .tiny import Output
from .told import Told, sketch

Forward = Callable[[Batch], Output]


def make(plan: Dict[str, Any], at: str, model: torch.nn.Module, forward: Forward, told: Told) -> None:
    """Makes the plan's probes that are due `at` the start or the end."""
    due = [probe for probe in plan.get("probes", []) if probe.get("at", "start") in (at, "both")]
    if not due:
        return
    samples = Samples(plan)
    training, gradients = model.training, [it.grad for it in model.parameters()]
    model.eval()
    for probe in due:
        batch = Collator(plan, probe.get("padding"))([samples[at] for at in probe["samples"]])
        model.zero_grad(set_to_none=True)
        output = forward(batch)
        taken = _gradients(model, output) if probe.get("gradients") else None
        told.probe(probe["name"], at, _rows(batch, output), batch["input_ids"].shape[1], taken)
    for parameter, gradient in zip(model.parameters(), gradients):
        parameter.grad = gradient
    model.train(training)


def _gradients(model: torch.nn.Module, output: Output) -> List[dict]:
    means = [value / max(output.weights[name], 1) for name, value in output.losses.items()]
    torch.stack(means).sum().backward()
    found = [(name, it.grad) for name, it in model.named_parameters() if it.requires_grad and it.grad is not None]
    return [
        {"name": name, "shape": list(it.shape), "norm": number(float(it.norm())), "sketch": sketch(it)}
        for name, it in found
    ]


def _rows(batch: Batch, output: Output) -> List[dict]:
    rows = []
    for at in range(batch["input_ids"].shape[0]):
        labels, logits = batch["labels"][at, 1:], output.logits[at].detach()
        lm = F.cross_entropy(logits[:-1], labels, ignore_index=IGNORED, reduction="sum")
        real = logits[batch["attention_mask"][at].bool()]
        head = [] if output.head is None else output.head[at].detach().tolist()
        bad = int((~torch.isfinite(logits)).sum()) + sum(value != value for value in head)
        sketches = [value for position in real for value in sketch(position)]
        rows.append({"loss": number(float(lm)), "logits": sketches, "head": head, "nonfinite": bad})
    return rows
