"""The trace format: one JSON object per line, schema 1, each line written when the event happens."""

from __future__ import annotations

import json
import math
from typing import IO, Any, Dict, List, Optional, Union

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
        self._held: Optional[List[str]] = None
        # Whether the trace has a line.
        self.begun = False

    def event(self, event: str, **fields: Any) -> None:
        """Writes one event. A field whose value is None is left out: the format reads an absent field as unknown."""
        line = {"event": event, **{name: value for name, value in fields.items() if value is not None}}
        try:
            text = _dumped(line)
        except ValueError:
            # A field that nobody passed through `number`. Looking at every value of every event would cost time.
            text = _dumped(_in_words(line))
        if self._held is None:
            self._write(text)
        else:
            self._held.append(text)

    def hold(self) -> None:
        """Holds events back until `release`: they belong after one that is not known yet."""
        self._held = []

    def release(self) -> List[str]:
        """Ends `hold`. Returns the lines held back, for `write_held`."""
        held, self._held = self._held or [], None
        return held

    def write_held(self, lines: List[str]) -> None:
        """Writes lines that were held back."""
        for text in lines:
            self._write(text)

    def close(self) -> None:
        self._to.close()

    def _write(self, text: str) -> None:
        self.begun = True
        self._to.write(text + "\n")
        self._to.flush()


def _dumped(line: Any) -> str:
    # Not `allow_nan`: Python would write a bare NaN, which no JSON reader takes.
    return json.dumps(line, allow_nan=False, separators=(",", ":"))


def _in_words(value: Any) -> Any:
    """A value with each number that is not finite as a word."""
    if isinstance(value, dict):
        return {name: _in_words(it) for name, it in value.items()}
    if isinstance(value, (list, tuple)):
        return [_in_words(it) for it in value]
    return number(value) if isinstance(value, float) else value
