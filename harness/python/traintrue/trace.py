"""The trace: one JSON object a line, schema 1, written as it happens."""

from __future__ import annotations

import json
import math
from typing import IO, Any, Union

SCHEMA = 1

Number = Union[int, float, str]


def number(value: float) -> Number:
    """A number as a trace has it: JSON has no NaN, and a NaN must reach the judge."""
    value = float(value)
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


class Writer:
    """Writes events, a flushed line each: what a killed process has written can be read."""

    def __init__(self, to: IO[str]) -> None:
        self._to = to

    def event(self, event: str, **fields: Any) -> None:
        """Writes an event; a field that is None is not known, and absent."""
        line = {"event": event, **{name: value for name, value in fields.items() if value is not None}}
        self._to.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
        self._to.flush()

    def close(self) -> None:
        self._to.close()


def loss(name: str, total: float, weight: float) -> dict:
    """A loss summed over what `weight` counts."""
    return {"name": name, "sum": number(total), "weight": number(weight)}
