"""What a recorded loop is held to: what its user declares, and what loader, optimizer and model show of themselves."""

from __future__ import annotations

from typing import Any, Dict, Iterable, Mapping, Optional

# PyTorch's usual conventions; a user's `contract` says where a loop has others.
CONTRACT = {
    "tail": "flush",
    "normaliser": "micro-batches",
    "gradients": "mean",
    "first_lr": "zero",
    "rows_per_sample": 1,
    "deterministic": False,
}


def contract_of(given: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
    """The usual conventions, with those given in their place."""
    unknown = sorted(set(given or {}) - set(CONTRACT))
    if unknown:
        raise ValueError(f"contract: unknown {', '.join(unknown)}; expected some of {', '.join(CONTRACT)}")
    return {**CONTRACT, **(given or {})}


def known(
    facts: Mapping[str, Any], loader: Any, optimizer: Any, parameters: Iterable[Any], tensors: Any
) -> Dict[str, Any]:
    """Everything that is known of a loop; what is not is left out."""
    groups = optimizer.param_groups
    seen = {**loader.size(), "lr": _peak_lr(groups), "eps": _adam_eps(groups), "dtype": _dtype(parameters, tensors)}
    declared = {name: value for name, value in facts.items() if value is not None}
    return {name: value for name, value in {**seen, **declared}.items() if value is not None}


def _peak_lr(groups: Iterable[Mapping[str, Any]]) -> Optional[float]:
    """The rate that a scheduler multiplies; none where groups have rates of their own."""
    rates = {float(group.get("initial_lr", group["lr"])) for group in groups}
    return rates.pop() if len(rates) == 1 else None


def _adam_eps(groups: Iterable[Mapping[str, Any]]) -> Optional[float]:
    found = [float(group["eps"]) for group in groups if "betas" in group and "eps" in group]
    return max(found) if found and max(found) > 0.0 else None


def _dtype(parameters: Iterable[Any], tensors: Any) -> str:
    """The coarsest number format among the parameters."""
    found = {tensors.dtype(it) for it in parameters}
    return next((coarse for coarse in ("bf16", "f16") if coarse in found), "f32")
