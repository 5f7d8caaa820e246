"""A training loop with accelerate, told a plan: `python -m traintrue.adapters.accelerate describe|run`."""

from __future__ import annotations

from typing import Any, Dict

from ..declared import CONTRACT
from ..trace import Writer
from .protocol import Plan, main
from .versions import named

OWN = {**CONTRACT, "normaliser": "tokens", "deterministic": True}


def describe() -> Dict[str, Any]:
    """What this loop can do."""
    return {
        "trainer": f"loop with {named('accelerate', 'torch')}",
        "capabilities": ["resume", "weights", "evaluation", "adapters", "heads", "probes"],
        "contract": OWN,
    }


def run(plan: Plan, trace: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    from .accelerate_loop import AccelerateLoop

    AccelerateLoop(plan, trace, description).run()


if __name__ == "__main__":
    raise SystemExit(main(describe, run))
