"""The trace format: one JSON object per line, schema 1, each line written when the event happens."""

from __future__ import annotations

import json
import math
from typing import IO, Any, Dict, Union

SCHEMA = 1

Number = Union[int, float, str]


def number(value: float) -> Number:
    """A number for the trace. JSON has no NaN and no infinity, and the judge must see both: they are written as words."""
    value = float(value)
    if math.isfinite(value):
        return value
    if math.isnan(value):
        return "nan"
    return "inf" if value > 0 else "-inf"


def loss(name: str, total: float, weight: float) -> dict:
    """One entry of `losses`: a sum, and the count that divides it to give the mean."""
    return {"name": name, "sum": number(total), "weight": number(weight)}


def failure(error: BaseException) -> Dict[str, str]:
    """The fields of the `end` event of a run that an exception ended."""
    return {"reason": "error", "message": f"{type(error).__name__}: {error}"}


class Writer:
    """Writes events and flushes after each line, so that the trace of a killed process can be read."""

    def __init__(self, to: IO[str]) -> None:
        self._to = to

    def event(self, event: str, **fields: Any) -> None:
        """Writes one event. A field whose value is None is left out: the format reads an absent field as unknown."""
        line = {"event": event, **{name: value for name, value in fields.items() if value is not None}}
        # Not `allow_nan`: Python would write a bare NaN, which no JSON reader takes.
        self._to.write(json.dumps(line, allow_nan=False, separators=(",", ":")) + "\n")
        self._to.flush()

    def close(self) -> None:
        self._to.close()
