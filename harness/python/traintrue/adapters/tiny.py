"""A causal transformer of a few thousand parameters, with LoRA adapters and a head if the plan asks for them."""

from __future__ import annotations

import math
from typing import Any, Dict, NamedTuple, Optional, Tuple

import torch
from torch import nn
from torch.nn import functional as F

from ..batches import IGNORED

SIZES = {"tiny": (16, 1, 2), "small": (32, 2, 2)}  # width, layers, attention heads
HEAD_WIDTH = 8


class Output(NamedTuple):
    """The result of a forward: logits, the head's output, summed losses, and the divisor of each sum."""

    logits: torch.Tensor
    head: Optional[torch.Tensor]
    losses: Dict[str, torch.Tensor]
    weights: Dict[str, int]

    def sums(self) -> Dict[str, Tuple[torch.Tensor, int]]:
        """Each loss with its divisor, as `Adapter.step` returns them."""
        return {name: (value, self.weights[name]) for name, value in self.losses.items()}


def of_tokens(logits: torch.Tensor, batch: Dict[str, torch.Tensor]) -> Output:
    """The output of a language model without a head: each token is predicted from those before it."""
    labels = batch["labels"][:, 1:]
    flat = logits[:, :-1].float().flatten(0, 1)
    lm = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    return Output(logits, None, {"lm": lm}, {"lm": int((labels != IGNORED).sum())})


class Adapted(nn.Module):
    """A frozen linear layer and a low-rank delta: LoRA (arXiv:2106.09685), or rsLoRA (arXiv:2312.03732) if `rs`."""

    def __init__(self, base: nn.Linear, r: int, alpha: float, rs: bool) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.lora_a = nn.Parameter(torch.randn(r, base.in_features) / math.sqrt(base.in_features))
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, r))
        self.scale = alpha / (math.sqrt(r) if rs else r)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + self.scale * (x @ self.lora_a.T @ self.lora_b.T)


class Block(nn.Module):
    """Attention and a feed-forward layer, each after a layer norm."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self.o(self._attend(self.first(x), allowed)))
        return x + self.dropout(self.down(F.gelu(self.up(self.second(x)))))

    def _attend(self, x: torch.Tensor, allowed: torch.Tensor) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (self.heads, -1)).transpose(1, 2)

        q, k, v = split(self.q(x)), split(self.k(x)), split(self.v(x))
        scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
        # The smallest number, not -inf: a position that may attend to nothing would get NaN from softmax, and 0 x NaN is NaN
        # when the loss masks it. With the smallest number it attends to everything, and is masked later.
        scores = scores.masked_fill(~allowed[:, None], torch.finfo(scores.dtype).min)
        return (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)


class Tiny(nn.Module):
    """The model of a plan. Its initial weights depend on the plan's seed alone."""

    def __init__(self, plan: Dict[str, Any]) -> None:
        super().__init__()
        train = plan["train"]
        width, layers, heads = SIZES[plan["model"]["size"]]
        self.embed = nn.Embedding(plan["data"]["tokens"]["vocabulary"], width)
        # Longer than any sample: padding rounds widths up to a multiple.
        self.places = nn.Embedding(4 * plan["data"]["max_length"], width)
        self.blocks = nn.ModuleList(Block(width, heads, train.get("dropout", 0.0)) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, plan["data"]["tokens"]["vocabulary"], bias=False)
        adapters = train.get("adapters")
        if adapters:
            self.requires_grad_(False)
            for block in self.blocks:
                for name in adapters["targets"]:
                    linear = getattr(block, name)
                    wrapped = Adapted(linear, adapters["r"], adapters["alpha"], adapters.get("rs", False))
                    setattr(block, name, wrapped)
        self.projection = nn.Linear(width, HEAD_WIDTH) if train.get("heads") else None

    def forward(self, batch: Dict[str, torch.Tensor]) -> Output:
        mask = batch["attention_mask"].bool()
        length = mask.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool).tril()
        # A token's position counts tokens, not pads, so that padding on the left changes nothing.
        places = (mask.cumsum(1) - 1).clamp(min=0)
        x = self.embed(batch["input_ids"]) + self.places(places)
        for block in self.blocks:
            x = block(x, causal & mask[:, None, :])
        x = self.norm(x)
        logits = self.output(x)
        output = of_tokens(logits, batch)
        head = None
        if self.projection is not None:
            tokens = mask.sum(1, keepdim=True)
            pooled = (x * mask[..., None]).sum(1) / tokens.clamp(min=1)
            head = self.projection(pooled)
            # The target is the same for every text; a row without a token has no loss and teaches nothing.
            output.losses["projection"] = ((head - 1.0).square().mean(1) * (tokens[:, 0] > 0)).sum()
            output.weights["projection"] = int((tokens > 0).sum())
        return output._replace(head=head)


def group_of(name: str, adapted: bool) -> str:
    """The group of a parameter from its name: `base`, `adapter`, or the head's name."""
    if "projection" in name:
        return "projection"
    return "adapter" if adapted and "lora_" in name else "base"
