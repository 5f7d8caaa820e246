"""The memory peak of a piece of work on the CPU, as torch's own profiler counts what its allocator hands out."""

from __future__ import annotations

from typing import Any, Callable, Tuple

from torch.profiler import ProfilerActivity, profile


def peak(work: Callable[[], Any]) -> Tuple[Any, int]:
    """What `work` returns, and the most bytes that it held at one time beyond those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = work()
    # Not `seen.events()`: those leave out the memory that belongs to an operation.
    events = [it for it in seen.profiler.kineto_results.events() if it.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda it: it.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return result, most
