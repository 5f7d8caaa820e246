"""The adapters by name: what each trainer is called, what it can do, and the conventions that its documentation promises."""

from __future__ import annotations

import sys
from typing import Any, Dict, NamedTuple, Tuple

from ..declared import CONTRACT
from .versions import at_least, installed, named

LOOP = ["resume", "weights", "evaluation", "adapters", "heads", "probes", "causal"]


class Shipped(NamedTuple):
    """One adapter, described without importing its framework: that takes seconds, and `describe` must answer at once."""

    # The trainer's name is this, with the versions of these packages; the first of them is the trainer's own.
    title: str
    packages: Tuple[str, ...]
    capabilities: Tuple[str, ...]
    # Conventions other than `CONTRACT`.
    contract: Dict[str, Any]
    # The module of this package whose `train` runs a plan.
    module: str

    def describe(self) -> Dict[str, Any]:
        """The answer to `describe`, without its schema."""
        return {
            "trainer": self.title.format(named(*self.packages)),
            "capabilities": list(self.capabilities),
            # Each of them runs on the CPU with one thread, and is therefore deterministic.
            "contract": {**CONTRACT, **self.contract, "deterministic": True},
            # Importing them starts no thread, and draws no random number that a run uses. Tried on Linux; the libraries of
            # macOS that torch uses there may not survive a fork.
            "serve": sys.platform == "linux",
        }


TABLE = {
    "plain": Shipped(
        title="plain PyTorch loop, {}",
        packages=("torch",),
        capabilities=(*LOOP, "contract", "world"),
        contract={"normaliser": "tokens"},
        module="plain_loop",
    ),
    "ddp": Shipped(
        title="DistributedDataParallel loop, {}",
        packages=("torch",),
        capabilities=(*LOOP, "contract", "world", "ranks"),
        contract={"normaliser": "tokens"},
        module="ddp_loop",
    ),
    "transformers": Shipped(
        title="{}",
        packages=("transformers", "accelerate", "peft", "torch"),
        capabilities=(
            *("resume", "weights", "evaluation", "heads", "probes", "causal", "checkpointing", "cache"),
            *(["adapters"] if installed("peft") else []),
        ),
        # The documentation says that accumulation equals a larger batch, which divides by tokens. Before 4.46 the Trainer
        # counted micro-batches on from one epoch into the next; since then an epoch closes its last window.
        contract={"normaliser": "tokens", "tail": "flush" if at_least("transformers", 4, 46) else "carry"},
        module="hf_trainer",
    ),
    "lightning": Shipped(
        title="{}",
        packages=("lightning", "torch"),
        capabilities=tuple(LOOP),
        # Automatic optimization divides the mean of each micro-batch by `accumulate_grad_batches`.
        contract={"normaliser": "micro-batches"},
        module="lightning_trainer",
    ),
    "accelerate": Shipped(
        title="loop with {}",
        packages=("accelerate", "torch"),
        capabilities=tuple(LOOP),
        contract={"normaliser": "tokens"},
        module="accelerate_loop",
    ),
    "peft": Shipped(
        title="plain PyTorch loop with {}",
        packages=("peft", "transformers", "torch"),
        # Meant for plans with LoRA adapters: without them PEFT has nothing to save.
        capabilities=(*LOOP, "contract"),
        contract={"normaliser": "tokens"},
        module="peft_loop",
    ),
}
