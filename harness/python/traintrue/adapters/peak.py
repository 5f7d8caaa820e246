"""The peak memory of a function on the CPU: torch's profiler records every allocation of its CPU allocator."""

from __future__ import annotations

from typing import Any, Callable, Tuple

from torch.profiler import ProfilerActivity, profile


def peak(work: Callable[[], Any]) -> Tuple[Any, int]:
    """The result of `work`, and the most bytes that it held at one time, not counting those held before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        result = work()
    # Not `seen.events()`: they leave out the allocations inside an operator.
    events = [it for it in seen.profiler.kineto_results.events() if it.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda it: it.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return result, most
