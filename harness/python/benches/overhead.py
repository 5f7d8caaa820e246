"""Measures what recording costs: a model of ten million parameters trains with it and without it in turn, in one process.

Two numbers per round. The ratio of processor time with and without recording contains every cost, and the noise of the
machine: 10 % if it is shared. The share of the recorded epoch that is spent in the recorder's hooks leaves out only the calls
of the hooks, and repeats within a few thousandths. With one thread, so that no thread waits for another:
`OMP_NUM_THREADS=1 python benches/overhead.py`.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Callable

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import traintrue
from traintrue.observe.models import Models
from traintrue.observe.patches import Guard

WIDTH, LAYERS, VOCABULARY, LENGTH, BATCH = 320, 6, 4000, 64, 8
UPDATES, ROUNDS = 60, 5


class Inside:
    """Adds up the processor time that the recorder's own code takes, apart from the bare calls of torch's hooks."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0
        setattr(Guard, "__call__", self._clocked(Guard.__call__))
        for name in ("_enter", "_leave"):
            setattr(Models, name, self._clocked(getattr(Models, name)))

    def _clocked(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def clocked(*given: Any) -> Any:
            if self._depth:
                return call(*given)
            self._depth, begun = 1, time.process_time()
            try:
                return call(*given)
            finally:
                self._depth = 0
                self.seconds += time.process_time() - begun

        return clocked


class Model(nn.Module):
    """An encoder stack with an embedding and an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        layer = nn.TransformerEncoderLayer(WIDTH, 5, 4 * WIDTH, dropout=0.0, batch_first=True)
        self.layers = nn.TransformerEncoder(layer, LAYERS, enable_nested_tensor=False)
        self.output = nn.Linear(WIDTH, VOCABULARY)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.output(self.layers(self.embed(tokens)))


def main() -> None:
    """Alternates, and prints both numbers of each round and their medians."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, criterion = Model(), nn.CrossEntropyLoss()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    tokens = torch.randint(0, VOCABULARY, (BATCH * UPDATES, LENGTH))
    loader = DataLoader(TensorDataset(tokens, tokens), batch_size=BATCH, shuffle=True)

    def epoch() -> float:
        begun = time.process_time()
        for inputs, labels in loader:
            criterion(model(inputs).flatten(0, 1), labels.flatten()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
        return time.process_time() - begun

    print(f"{sum(it.numel() for it in model.parameters()) / 1e6:.1f} M parameters, {UPDATES} updates a round")
    epoch()
    inside, ratios, shares = Inside(), [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(ROUNDS):
            without = epoch()
            # The states at the start and end of a recording are written outside the epoch, and do not count.
            with traintrue.record(Path(folder) / f"{number}.jsonl", model, optimizer, loader, criterion=criterion):
                inside.seconds = 0.0
                recorded = epoch()
            ratios.append(recorded / without)
            shares.append(inside.seconds / recorded)
            print(f"round {number}: ratio {ratios[-1]:.3f}, inside hooks {shares[-1]:.2%}")
    print(f"medians: ratio {statistics.median(ratios):.3f}, inside hooks {statistics.median(shares):.2%}")


if __name__ == "__main__":
    main()
