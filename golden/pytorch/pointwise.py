"""GELU, layer norm and masked mean pooling by themselves: closer than a whole model can be compared."""

import math
from pathlib import Path

import torch
from torch.nn import functional

from golden import figure, figures, uniform, write
from model import NORM_EPS, layer_norm, masked_mean


def of_gelu(x: torch.Tensor, approximate: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Values and slopes."""
    x = x.clone().requires_grad_()
    y = functional.gelu(x, approximate=approximate)
    y.sum().backward()
    return y.detach(), x.grad


def gelu(folder: Path):
    x = torch.linspace(-6, 6, 193, dtype=torch.float64)
    (y, slope), (wrong_y, wrong_slope) = of_gelu(x, "none"), of_gelu(x, "tanh")
    bugs = {
        "tanh": figure(float((wrong_y - y).abs().max()), 4),
        "slope-of-tanh": figure(float((wrong_slope - slope).abs().max()), 4),
    }
    write(folder, "gelu", {"x": figures(x), "y": figures(y), "slope": figures(slope), "bugs": bugs})


def eps_outside_the_root(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (centred.square().mean(dim=-1, keepdim=True).sqrt() + NORM_EPS) * weight + bias


def unbiased(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    centred = x - x.mean(dim=-1, keepdim=True)
    return centred / (x.var(dim=-1, keepdim=True) + NORM_EPS).sqrt() * weight + bias


def of_norm(rule, x, weight, bias, pull) -> dict[str, torch.Tensor]:
    """Outputs, and the gradients of `sum(pull * output)`."""
    leaves = [it.clone().requires_grad_() for it in (x, weight, bias)]
    y = rule(*leaves)
    (y * pull).sum().backward()
    return dict(zip(("y", "dx", "dweight", "dbias"), (y.detach(), *(leaf.grad for leaf in leaves))))


def furthest(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest L2 distance of two tensors, relative to the right one's norm."""
    return max(float((one[name] - other[name]).norm() / other[name].norm()) for name in other)


def norm(folder: Path):
    """Rows of three scales: where the variance is as small as what is added to it, the place of `eps` shows."""
    scales = torch.tensor([1.0, 1.0, 1 / 64, 1 / 64, 1 / 512, 1 / 512], dtype=torch.float64)
    x = uniform("norm/x", (6, 8), 1.0) * scales[:, None]
    weight, bias = uniform("norm/weight", (8,), 0.2, 1.0), uniform("norm/bias", (8,), 0.2)
    pull = uniform("norm/pull", (6, 8), 1.0) * scales[:, None]
    right = of_norm(layer_norm, x, weight, bias, pull)
    wrong = {"eps-outside-the-root": eps_outside_the_root, "unbiased": unbiased}
    bugs = {bug: figure(furthest(of_norm(rule, x, weight, bias, pull), right), 4) for bug, rule in wrong.items()}
    given = {"x": x, "weight": weight, "bias": bias, "pull": pull}
    write(folder, "norm", {name: figures(it) for name, it in (given | right).items()} | {"bugs": bugs})


def of_pooling(rule, hidden, real, pull) -> dict[str, torch.Tensor]:
    hidden = hidden.clone().requires_grad_()
    pooled = rule(hidden, real)
    unit = functional.normalize(pooled, dim=1)
    (unit * pull).sum().backward()
    return {"pooled": pooled.detach(), "unit": unit.detach(), "dhidden": hidden.grad}


def pooling(folder: Path):
    """The third row has no token, and still gives finite vectors; the last is full."""
    real = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 1, 1, 1, 1]]).bool()
    hidden, pull = uniform("pooling/hidden", (5, 5, 4), 1.0), uniform("pooling/pull", (5, 4), 1.0)
    # No length, no direction: what a loss does with such a row's vector is left out of it.
    pull[2] = 0
    right = of_pooling(masked_mean, hidden, real, pull)
    assert math.isfinite(sum(float(it.sum()) for it in right.values()))
    wrong = {
        "over-padding": lambda hidden, real: hidden.mean(dim=1),
        "divided-by-the-width": lambda hidden, real: (hidden * real[:, :, None]).mean(dim=1),
        "last-position": lambda hidden, real: hidden[:, -1] * real.any(dim=1, keepdim=True),
    }
    bugs = {bug: figure(furthest(of_pooling(rule, hidden, real, pull), right), 4) for bug, rule in wrong.items()}
    document = {"real": real.tolist(), "hidden": figures(hidden), "pull": figures(pull)}
    write(folder, "pooling", document | {name: figures(it) for name, it in right.items()} | {"bugs": bugs})


def generate(folder: Path):
    gelu(folder)
    norm(folder)
    pooling(folder)
