"""The micro-batch of micro_batch.rs in eager PyTorch on one thread: the small model, batch 2 of 32 tokens, rank-4 adapters.

Each micro-batch does what the reference trainer does for one: collates its rows, builds the mask, takes the summed
next-token cross-entropy, reads it, and adds the scaled gradients to those of its window. Prints the median in microseconds.
"""

import argparse
import math
import statistics
import time

import torch
from torch import nn
from torch.nn import functional

VOCABULARY, HIDDEN, HEADS, INNER, LAYERS, RANK, ALPHA = 259, 64, 4, 128, 2, 4, 16.0
ROWS, WIDTH, WINDOW = 2, 32, 256


class Adapted(nn.Module):
    """A frozen linear with a low-rank adapter (LoRA, arXiv 2106.09685)."""

    def __init__(self, width: int):
        super().__init__()
        self.base = nn.Linear(width, width)
        self.lora_a = nn.Parameter(torch.randn(width, RANK) / math.sqrt(width))
        self.lora_b = nn.Parameter(torch.zeros(RANK, width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.base(x) + x @ self.lora_a @ self.lora_b * (ALPHA / RANK)


class Block(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self):
        super().__init__()
        self.attention_norm = nn.LayerNorm(HIDDEN)
        self.q, self.k, self.v = Adapted(HIDDEN), nn.Linear(HIDDEN, HIDDEN), Adapted(HIDDEN)
        self.o = nn.Linear(HIDDEN, HIDDEN)
        self.inner_norm = nn.LayerNorm(HIDDEN)
        self.up, self.down = nn.Linear(HIDDEN, INNER), nn.Linear(INNER, HIDDEN)

    def forward(self, x: torch.Tensor, forbidden: torch.Tensor) -> torch.Tensor:
        x = x + self.o(self.attend(self.attention_norm(x), forbidden))
        return x + self.down(functional.gelu(self.up(self.inner_norm(x))))

    def attend(self, x: torch.Tensor, forbidden: torch.Tensor) -> torch.Tensor:
        rows, width, _ = x.shape

        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(rows, width, HEADS, HIDDEN // HEADS).transpose(1, 2)

        scores = split(self.q(x)) @ split(self.k(x)).transpose(2, 3) / math.sqrt(HIDDEN // HEADS)
        weights = scores.masked_fill(forbidden, -1e30).softmax(dim=3)
        return (weights @ split(self.v(x))).transpose(1, 2).reshape(rows, width, HIDDEN)


class Model(nn.Module):
    """The small model: its base is frozen, its adapters learn."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, HIDDEN)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(HIDDEN)
        self.lm_head = nn.Linear(HIDDEN, VOCABULARY, bias=False)
        self.register_buffer("sinusoids", sinusoids())
        for name, parameter in self.named_parameters():
            parameter.requires_grad_("lora" in name)

    def forward(self, ids: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        x = self.embedding(ids) + self.sinusoids[: ids.shape[1]]
        after = torch.ones(ids.shape[1], ids.shape[1], dtype=torch.bool).triu(1)
        forbidden = (after | ~real[:, None, :])[:, None]
        for block in self.blocks:
            x = block(x, forbidden)
        return self.lm_head(self.norm(x))


def sinusoids() -> torch.Tensor:
    """Sines and cosines of the positions (arXiv 1706.03762, section 3.5)."""
    at = torch.arange(HIDDEN)
    angles = torch.arange(WIDTH)[:, None] / 10_000 ** (at // 2 * 2 / HIDDEN)
    return torch.where(at % 2 == 0, angles.sin(), angles.cos())


def sample(number: int) -> list[int]:
    """A full row of text bytes between the ids that begin and end it."""
    return [257, *((7 * number + 11 * at) % 256 for at in range(2, WIDTH)), 258]


def micro_batch(model: Model, samples: list[list[int]]) -> float:
    ids = torch.tensor(samples)
    real = torch.ones_like(ids, dtype=torch.bool)
    logits = model(ids, real)
    loss = functional.cross_entropy(logits[:, :-1].reshape(-1, VOCABULARY), ids[:, 1:].reshape(-1), reduction="sum")
    (loss / (ROWS * (WIDTH - 1) * WINDOW)).backward()
    return loss.item()


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--seconds", type=float, default=5.0, help="how long to measure, after a fifth of it to warm up")
    seconds = arguments.parse_args().seconds

    torch.set_num_threads(1)
    torch.manual_seed(7)
    model = Model()
    batches = [[sample(ROWS * index + row) for row in range(ROWS)] for index in range(WINDOW)]
    windows, begun = [], time.perf_counter()
    while not windows or time.perf_counter() - begun < 1.2 * seconds:
        model.zero_grad()
        window_begun = time.perf_counter()
        for batch in batches:
            micro_batch(model, batch)
        window_ended = time.perf_counter()
        if window_begun - begun >= 0.2 * seconds:
            windows.append((window_ended - window_begun) / WINDOW)
    print(f"{1e6 * statistics.median(windows):.1f}")


if __name__ == "__main__":
    main()
