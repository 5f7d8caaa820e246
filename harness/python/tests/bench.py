"""A loop over stand-ins for torch's classes, ready to be recorded."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any, Dict, List

import traintrue

from .fakes import Loader, Model, Optimizer, Tensors


class Bench:
    """A model, an optimizer, a loader, and a loop over them that may go wrong in one place."""

    def __init__(self, loader: Any = None, frozen: bool = False, without: str = "") -> None:
        self.model, self.tensors = Model(frozen), Tensors()
        held = [it for name, it in self.model.parameters.items() if name != without]
        self.optimizer = Optimizer(held)
        self.loader = loader if loader is not None else Loader()
        self.path = Path(tempfile.mkdtemp()) / "run.jsonl"

    def record(self, **declared: Any) -> traintrue.Recorder:
        parts = (self.path, self.model, self.optimizer, self.loader)
        return traintrue.record(*parts, tensors=self.tensors, **declared)

    def train(self, epochs: int = 2, accumulation: int = 2, clears: bool = True, flushes: bool = True) -> None:
        for _ in range(epochs):
            held = 0
            for batch in self.loader:
                self.model(batch)
                self.model.backward()
                held += 1
                if held == accumulation:
                    self._update(clears)
                    held = 0
            if held and flushes:
                self._update(clears)

    def _update(self, clears: bool) -> None:
        self.optimizer.step()
        if clears:
            self.optimizer.zero_grad()

    def events(self, name: str = "") -> List[Dict[str, Any]]:
        events = [json.loads(line) for line in self.path.read_text().splitlines()]
        return [event for event in events if not name or event["event"] == name]
