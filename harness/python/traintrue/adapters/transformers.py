"""Hugging Face's `Trainer`, told a plan: `python -m traintrue.adapters.transformers describe|run`."""

from __future__ import annotations

from typing import Any, Dict

from ..declared import CONTRACT
from ..trace import Writer
from .protocol import Plan, main
from .versions import at_least, installed, named

# The documentation has it that accumulating equals a larger batch: tokens. Before 4.46 micro-batches were counted through
# from one epoch into the next; since then each epoch closes its last window.
OWN = {
    **CONTRACT,
    "normaliser": "tokens",
    "deterministic": True,
    "tail": "flush" if at_least("transformers", 4, 46) else "carry",
}


def describe() -> Dict[str, Any]:
    """What this version can do here."""
    capabilities = ["resume", "weights", "evaluation", "heads", "probes", "checkpointing", "cache"]
    return {
        "trainer": named("transformers", "accelerate", "peft", "torch"),
        "capabilities": capabilities + (["adapters"] if installed("peft") else []),
        "contract": OWN,
    }


def run(plan: Plan, trace: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    from .hf_trainer import train

    train(plan, trace, description)


if __name__ == "__main__":
    raise SystemExit(main(describe, run))
