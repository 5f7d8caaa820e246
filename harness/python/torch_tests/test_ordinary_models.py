"""Models other than a dense float32 one: their loops run unchanged when recorded, and hold."""

from __future__ import annotations

import copy
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, Tuple

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import traintrue

from .test_loops import judged

Made = Tuple[nn.Module, torch.optim.Optimizer]


def adam(model: nn.Module) -> Made:
    return model, torch.optim.AdamW((it for it in model.parameters() if it.requires_grad), lr=1e-2)


def net() -> nn.Sequential:
    return nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 3))


class Bag(nn.Module):
    """An embedding whose gradients are sparse."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.output = nn.Embedding(50, 8, sparse=True), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.output(self.embed(inputs.abs().mul(10).long()).mean(1))


class Waves(nn.Module):
    """A parameter of complex numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.turn, self.output = nn.Parameter(torch.randn(8, dtype=torch.cfloat)), nn.Linear(8, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.output((inputs * self.turn).abs())


class Adapted(nn.Module):
    """A frozen layer with an adapter that starts at 0: half of its gradients are 0 at first."""

    def __init__(self) -> None:
        super().__init__()
        self.base = nn.Linear(8, 3).requires_grad_(False)
        self.a, self.b = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.zeros(3, 2))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.base(inputs) + inputs @ self.a.T @ self.b.T


def bag() -> Made:
    model = Bag()
    return model, torch.optim.SGD(model.parameters(), lr=0.1)


MODELS: Dict[str, Callable[[], Made]] = {
    "plain": lambda: adam(net()),
    "compiled": lambda: adam(torch.compile(net(), backend="aot_eager")),
    "float64": lambda: adam(net().double()),
    "bf16": lambda: adam(net().bfloat16()),
    "sparse gradients": bag,
    "complex": lambda: adam(Waves()),
    "adapted": lambda: adam(Adapted()),
}


def recorded(made: Made, beside: Callable[[nn.Module], Any] = lambda _model: None) -> Path:
    """Two epochs with windows of two micro-batches; `beside` is called before each batch is trained on."""
    model, optimizer = made
    torch.set_num_threads(1)
    dtype = next(it.dtype for it in model.parameters() if not it.is_complex())
    data = TensorDataset(torch.randn(24, 8, dtype=dtype), torch.randint(0, 3, (24,)))
    loader, criterion = DataLoader(data, batch_size=4, shuffle=True), nn.CrossEntropyLoss()
    trace = Path(tempfile.mkdtemp()) / "run.jsonl"
    declared = {"epochs": 2, "accumulation": 2, "clip": 0.1, "digest_every": 2}
    with traintrue.record(trace, model, optimizer, loader, criterion=criterion, **declared):
        for _ in range(2):
            for index, (inputs, classes) in enumerate(loader):
                beside(model)
                (criterion(model(inputs), classes) / 2).backward()
                if index % 2:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), 0.1, foreach=False)
                    optimizer.step()
                    optimizer.zero_grad()
    return trace


class ARightLoop(unittest.TestCase):
    def held(self, trace: Path) -> None:
        outcome = judged(trace)
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))
        updates = [it for it in map(json.loads, trace.read_text().splitlines()) if it["event"] == "update"]
        self.assertEqual([it["micro_batches"] for it in updates], [2] * 6)

    def test_over_any_model_is_held(self) -> None:
        for name, make in MODELS.items():
            with self.subTest(name):
                torch.manual_seed(0)
                self.held(recorded(make()))

    def test_may_copy_and_save_its_model(self) -> None:
        def beside(model: nn.Module) -> None:
            teacher = copy.deepcopy(model)
            with torch.no_grad():
                teacher(torch.randn(4, 8))
            path = Path(tempfile.mkdtemp()) / "model.pt"
            torch.save(model, path)
            torch.load(path, weights_only=False)(torch.randn(4, 8))

        self.held(recorded(adam(net()), beside))

    def test_may_keep_its_losses_apart(self) -> None:
        model, optimizer = adam(net())
        loader = DataLoader(TensorDataset(torch.randn(8, 8), torch.randint(0, 3, (8,))), batch_size=4)
        criterion = nn.CrossEntropyLoss(reduction="none")
        trace = Path(tempfile.mkdtemp()) / "run.jsonl"
        with traintrue.record(trace, model, optimizer, loader, criterion=criterion, epochs=1):
            for inputs, classes in loader:
                criterion(model(inputs), classes).mean().backward()
                optimizer.step()
                optimizer.zero_grad()
        self.assertEqual(judged(trace)["findings"], [])


if __name__ == "__main__":
    unittest.main()
