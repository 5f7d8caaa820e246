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
        before = torch.get_rng_state()
        output = forward(batch)
        is_lm = tuple(output.logits.shape[:-1]) == tuple(batch["input_ids"].shape)
        if not is_lm and not torch.equal(before, torch.get_rng_state()):
            # Timesteps or noise that are drawn for each forward: no two forwards of a sample can be compared.
            continue
        taken = _gradients(model, output) if probe.get("gradients") else None
        rows = _of_tokens(batch, output) if is_lm else _of_samples(batch, output, forward)
        trace.probe(probe["name"], at, rows, batch["input_ids"].shape[1], taken)
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


def _of_tokens(batch: Batch, output: Output) -> List[dict]:
    """The rows of a language model: its loss, and the logits at each token."""
    rows = []
    for at, logits in enumerate(output.logits.detach()):
        lm = F.cross_entropy(logits[:-1], batch["labels"][at, 1:], ignore_index=IGNORED, reduction="sum")
        rows.append(_row(float(lm), logits, logits[batch["attention_mask"][at].bool()], output, at))
    return rows


def _of_samples(batch: Batch, output: Output, forward: Forward) -> List[dict]:
    """The rows of any other model: its output of each sample, and the loss of the sample by itself, which only its own forward
    knows."""
    rows = []
    for at, found in enumerate(output.logits.detach()):
        with torch.no_grad():
            alone = forward({name: it[at : at + 1] for name, it in batch.items()}).losses["lm"]
        rows.append(_row(float(alone), found, found.reshape(1, -1), output, at))
    return rows


def _row(loss: float, found: torch.Tensor, told: torch.Tensor, output: Output, at: int) -> dict:
    head = [] if output.head is None else output.head[at].detach().tolist()
    return {
        "loss": number(loss),
        "logits": [value for position in told for value in sketch(position)],
        "head": [number(value) for value in head],
        # Padding counts here, and not in the sketches: whatever its logits are, they must be finite.
        "nonfinite": int((~torch.isfinite(found)).sum()) + sum(not math.isfinite(value) for value in head),
    }
