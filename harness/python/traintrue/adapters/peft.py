"""A plain loop with PEFT in charge of the adapters, told a plan: `python -m traintrue.adapters.peft describe|run`."""

from __future__ import annotations

from typing import Any, Dict

from ..declared import CONTRACT
from ..trace import Writer
from .protocol import Plan, main
from .versions import named

OWN = {**CONTRACT, "normaliser": "tokens", "deterministic": True}


def describe() -> Dict[str, Any]:
    """What this loop can do: without adapters there is nothing for PEFT to save."""
    return {
        "trainer": f"plain PyTorch loop with {named('peft', 'transformers', 'torch')}",
        "capabilities": ["resume", "weights", "evaluation", "adapters", "heads", "probes", "contract"],
        "contract": OWN,
    }


def run(plan: Plan, trace: Writer, description: Dict[str, Any]) -> None:
    """Runs one plan."""
    from .peft_loop import PeftLoop

    PeftLoop(plan, trace, description).run()


if __name__ == "__main__":
    raise SystemExit(main(describe, run))
