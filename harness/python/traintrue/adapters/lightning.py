"""Lightning's `Trainer`, told a plan: `python -m traintrue.adapters.lightning describe|run`."""

from __future__ import annotations

from typing import Any, Dict

from ..declared import CONTRACT
from ..trace import Writer
from .protocol import Plan, main
from .versions import named

# Automatic optimisation divides each micro-batch's mean by `accumulate_grad_batches`, and steps at an epoch's end.
OWN = {**CONTRACT, "normaliser": "micro-batches", "deterministic": True}


def describe() -> Dict[str, Any]:
    """What this version can do here."""
    return {
        "trainer": named("lightning", "torch"),
        "capabilities": ["resume", "weights", "evaluation", "adapters", "heads", "probes"],
        "contract": OWN,
    }


def run(plan: Plan, trace: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    from .lightning_trainer import train

    train(plan, trace, description)


if __name__ == "__main__":
    raise SystemExit(main(describe, run))
