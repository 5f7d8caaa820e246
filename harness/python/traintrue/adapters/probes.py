"""Probes: forwards outside training, in evaluation mode, that leave no trace in the model."""

from __future__ import annotations

import math
from typing import Any, Callable, Dict, List

import torch
from torch.nn import functional as F

from ..batches import IGNORED
from ..trace import number
from .data import Batch, Collator, Samples
from .tiny import Output
from .run_trace import TENSORS, RunTrace

Forward = Callable[[Batch], Output]


def make(plan: Dict[str, Any], at: str, model: torch.nn.Module, forward: Forward, trace: RunTrace) -> None:
    """Makes the plan's probes that are due `at` the `start` or the `end`."""
    due = [probe for probe in plan.get("probes", []) if probe.get("at", "start") in (at, "both")]
    if not due:
        return
    samples = Samples(plan)
    # An open window's gradients are put back afterwards, as the same tensors.
    training, gradients = model.training, [it.grad for it in model.parameters()]
    model.eval()
    for probe in due:
        batch = Collator(plan, probe.get("padding"))([samples[at] for at in probe["samples"]])
        model.zero_grad(set_to_none=True)
        output = forward(batch)
        taken = _gradients(model, output) if probe.get("gradients") else None
        trace.probe(probe["name"], at, _rows(batch, output), batch["input_ids"].shape[1], taken)
    for parameter, gradient in zip(model.parameters(), gradients):
        parameter.grad = gradient
    model.train(training)


def sketch(tensor: torch.Tensor) -> list:
    """The sketch of a tensor, as numbers for the trace."""
    return [number(value) for value in TENSORS.sketch(tensor)]


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
        # Padding counts here, and not in the sketches: whatever its logits are, they must be finite.
        bad = int((~torch.isfinite(logits)).sum()) + sum(not math.isfinite(value) for value in head)
        rows.append(
            {
                "loss": number(float(lm)),
                "logits": [value for position in real for value in sketch(position)],
                "head": [number(value) for value in head],
                "nonfinite": bad,
            }
        )
    return rows
