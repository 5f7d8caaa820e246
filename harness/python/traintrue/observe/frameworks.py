"""Facts that a framework's own settings give: accumulation, clip and epochs as its user configured them."""

from __future__ import annotations

import gc
import sys
from typing import Any, Callable, Dict, List, Tuple

from ..tensors import with_subclasses

# Facts by name, from a settings object.
Facts = Dict[str, Any]


def read() -> Tuple[Facts, Dict[str, str]]:
    """The facts, and for each of them the class that it was read from. Nothing is imported: what is not loaded is not in use."""
    for module, name, facts in SOURCES:
        kind = getattr(sys.modules.get(module), name, None)
        found = [facts(it) for it in _instances(kind)] if isinstance(kind, type) else []
        # Two trainers with different settings: which of them trains is not known.
        if found and all(it == found[0] for it in found):
            known = {key: value for key, value in found[0].items() if value is not None}
            return known, {key: f"{module.split('.')[0]}.{name}" for key in known}
    return {}, {}


def _transformers(it: Any) -> Facts:
    epochs = it.num_train_epochs
    return {
        "accumulation": it.gradient_accumulation_steps,
        "clip": it.max_grad_norm if it.max_grad_norm and it.max_grad_norm > 0 else None,
        "epochs": int(epochs) if it.max_steps <= 0 and epochs == int(epochs) else None,
    }


def _lightning(it: Any) -> Facts:
    # With manual optimization a Trainer accumulates nothing and clips nothing: then both are at their defaults.
    by_norm = it.gradient_clip_algorithm in (None, "norm") or getattr(it.gradient_clip_algorithm, "value", "") == "norm"
    return {
        "accumulation": it.accumulate_grad_batches if it.accumulate_grad_batches > 1 else None,
        "clip": it.gradient_clip_val if it.gradient_clip_val and by_norm else None,
    }


def _accelerate(it: Any) -> Facts:
    # 1 is the default, also of loops that accumulate on their own.
    steps = it.gradient_accumulation_steps
    return {"accumulation": steps if steps > 1 else None}


# transformers' Trainer makes an Accelerator with settings of its own: the first source that is in use counts.
SOURCES: List[Tuple[str, str, Callable[[Any], Facts]]] = [
    ("transformers.training_args", "TrainingArguments", _transformers),
    ("lightning.pytorch.trainer.trainer", "Trainer", _lightning),
    ("pytorch_lightning.trainer.trainer", "Trainer", _lightning),
    ("accelerate.accelerator", "Accelerator", _accelerate),
]


def _instances(kind: type) -> List[Any]:
    kinds = with_subclasses(kind)
    return [it for it in gc.get_objects() if type(it) in kinds]
