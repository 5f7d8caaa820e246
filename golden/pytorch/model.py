"""The reference trainer's model in plain PyTorch: a pre-norm causal transformer with a projection head.

What it is made of are `Rules`; a known bug is a rule put in the place of a right one.
"""

import math
from dataclasses import dataclass
from typing import Callable

import torch
from torch import nn
from torch.nn import functional

from data import IGNORED, Batch

SIZES = {
    "tiny": dict(layers=1, hidden=8, heads=2, inner=16, projection=4),
    "deep": dict(layers=4, hidden=32, heads=2, inner=64, projection=16),
}
TEMPERATURE = 0.2
NORM_EPS = 1e-5


def layer_norm(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
    return functional.layer_norm(x, x.shape[-1:], weight, bias, NORM_EPS)


def causal_over_tokens(real: torch.Tensor) -> torch.Tensor:
    """A token attends to the tokens before it and to itself: `[rows, 1, width, width]`."""
    width = real.shape[1]
    return torch.ones(width, width, dtype=torch.bool).tril() & real[:, None, None, :]


def masked_mean(hidden: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
    """The mean over a row's tokens; a row without one gives 0."""
    counts = real.sum(dim=1, keepdim=True).clamp(min=1)
    return (hidden * real[:, :, None]).sum(dim=1) / counts


@dataclass(frozen=True)
class Rules:
    gelu: Callable = functional.gelu
    norm: Callable = layer_norm
    allowed: Callable = causal_over_tokens
    pool: Callable = masked_mean


class Norm(nn.Module):
    def __init__(self, width: int, rules: Rules):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.rules = rules

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.rules.norm(x, self.weight, self.bias)


class Block(nn.Module):
    def __init__(self, hidden: int, heads: int, inner: int, rules: Rules):
        super().__init__()
        self.heads, self.rules = heads, rules
        self.attention_norm, self.inner_norm = Norm(hidden, rules), Norm(hidden, rules)
        self.q, self.k, self.v, self.o = (nn.Linear(hidden, hidden) for _ in range(4))
        self.up, self.down = nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        x = x + self.attend(self.attention_norm(x), allowed)
        return x + self.down(self.rules.gelu(self.up(self.inner_norm(x))))

    def attend(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(2, (self.heads, -1)).transpose(1, 2)

        scores = split(self.q(x)) @ split(self.k(x)).mT / math.sqrt(x.shape[2] // self.heads)
        weights = scores.masked_fill(~allowed, torch.finfo(x.dtype).min).softmax(dim=3)
        # A position that may attend to nothing attends to nothing.
        weights = weights * allowed.any(dim=3, keepdim=True)
        return self.o((weights @ split(self.v(x))).transpose(1, 2).flatten(2))


class Model(nn.Module):
    def __init__(self, plan: dict, rules: Rules = Rules()):
        super().__init__()
        size = SIZES[plan["model"]["size"]]
        hidden, vocabulary = size["hidden"], plan["data"]["tokens"]["vocabulary"]
        self.rules = rules
        self.embedding = nn.Embedding(vocabulary, hidden)
        self.layers = nn.ModuleList(
            Block(hidden, size["heads"], size["inner"], rules) for _ in range(size["layers"])
        )
        self.norm = Norm(hidden, rules)
        self.lm_head = nn.Linear(hidden, vocabulary, bias=False)
        if plan["train"]["heads"]:
            self.projection = nn.Linear(hidden, size["projection"])

    def forward(self, batch: Batch) -> torch.Tensor:
        """Hidden states after the last norm, `[rows, width, hidden]`."""
        x = self.embedding(batch.ids)
        x = x + sinusoids(batch.positions, x.shape[2]).to(x.dtype)
        allowed = self.rules.allowed(batch.real)
        for layer in self.layers:
            x = layer(x, allowed)
        return self.norm(x)

    def vectors(self, hidden: torch.Tensor, batch: Batch) -> torch.Tensor:
        """One unit vector a row."""
        return functional.normalize(self.projection(self.rules.pool(hidden, batch.real)), dim=1)


def sinusoids(positions: torch.Tensor, width: int) -> torch.Tensor:
    """Sines and cosines in turn (arXiv 1706.03762, section 3.5), rounded to f32 as a table of them is."""
    at = torch.arange(width)
    angles = positions[:, :, None].double() / 10_000 ** ((at // 2 * 2).double() / width)
    return torch.where(at % 2 == 0, angles.sin(), angles.cos()).float()


def lm_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Next-token cross-entropy summed over the supervised positions."""
    return functional.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="sum"
    )


def head_loss(vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """The cross-entropy of telling the positive from the negative, summed over the samples that have a token."""
    anchors, positives, negatives = vectors.chunk(3)
    scores = torch.stack([(anchors * positives).sum(1), (anchors * negatives).sum(1)], dim=1) / TEMPERATURE
    losses = functional.cross_entropy(scores, torch.zeros(len(scores), dtype=torch.long), reduction="none")
    return losses[batch.real[: batch.anchors].any(dim=1)].sum()


def losses(model: Model, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The two summed losses; 0 for the second where there is no head."""
    hidden = model(batch)
    lm = lm_loss(model.lm_head(hidden[: batch.anchors]), batch.targets)
    if not hasattr(model, "projection"):
        return lm, torch.zeros((), dtype=lm.dtype)
    return lm, head_loss(model.vectors(hidden, batch), batch)
