"""The tiny causal model of a plan, made by transformers and PEFT. Nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from ..batches import IGNORED
from .data import Batch
from .tiny import HEAD_WIDTH, SIZES, Output, of_tokens

MODULES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "up": "up_proj", "down": "down_proj"}
FIELDS = ("input_ids", "attention_mask", "labels")


class WithHead(LlamaForCausalLM):
    """A causal model with a second head: a projection of the mean over each row's tokens."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.hidden_size, HEAD_WIDTH)
        self.pooled: Optional[torch.Tensor] = None

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **more: Any) -> Any:
        # The projection is kept here and not in the output: a Trainer would gather it over the whole evaluation.
        output = super().forward(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, **{**more, "output_hidden_states": True}
        )
        mask = attention_mask.to(output.logits.dtype)
        tokens = mask.sum(1, keepdim=True)
        self.pooled = self.projection((output.hidden_states[-1] * mask[..., None]).sum(1) / tokens.clamp(min=1))
        if self.training and output.loss is not None:
            mean = self.head_loss(mask) / (tokens > 0).sum().clamp(min=1)
            # Given the window's targets, `output.loss` is this micro-batch's share of the window's mean; so is the head's.
            window = more.get("num_items_in_batch")
            share = 1.0 if window is None else (labels[:, 1:] != IGNORED).sum() / window
            output.loss = output.loss + mean * share
        output.hidden_states = None
        return output

    def head_loss(self, mask: torch.Tensor) -> torch.Tensor:
        """The head's loss, summed over the rows that have a token."""
        return ((self.pooled - 1.0).square().mean(1) * (mask.sum(1) > 0)).sum()


def build(plan: Dict[str, Any], weights: Optional[Path]) -> nn.Module:
    """The model of a plan. `weights` is a checkpoint's folder: its adapters and head are loaded, or the whole model."""
    train, tokens = plan["train"], plan["data"]["tokens"]
    width, layers, heads = SIZES[plan["model"]["size"]]
    config = LlamaConfig(
        vocab_size=tokens["vocabulary"],
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=4 * plan["data"]["max_length"],
        attention_dropout=train.get("dropout", 0.0),
        pad_token_id=tokens["pad"],
        bos_token_id=tokens["bos"],
        eos_token_id=tokens["eos"],
        use_cache=train.get("cache", False),
        attn_implementation="eager",
    )
    torch.manual_seed(plan["seed"] % 2**63)
    model = (WithHead if train.get("heads") else LlamaForCausalLM)(config)
    if train.get("adapters"):
        return _adapted(model, train, weights)
    if weights is not None:
        from safetensors.torch import load_file

        model.load_state_dict(load_file(weights / "model.safetensors"), strict=False)
    return model


def _adapted(model: nn.Module, train: Dict[str, Any], weights: Optional[Path]) -> nn.Module:
    from peft import LoraConfig, PeftModel, get_peft_model

    if weights is not None:
        return PeftModel.from_pretrained(model, str(weights), is_trainable=True)
    asked = train["adapters"]
    settings = LoraConfig(
        r=asked["r"],
        lora_alpha=asked["alpha"],
        use_rslora=asked.get("rs", False),
        lora_dropout=train.get("dropout", 0.0),
        target_modules=[MODULES[name] for name in asked["targets"]],
        modules_to_save=["projection"] if train.get("heads") else None,
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, settings)


def group_of(name: str, adapted: bool) -> str:
    """The group of a parameter from its name. PEFT trains a copy of the head, and keeps the original frozen in `base`."""
    if "projection" in name and "original_module" not in name:
        return "projection"
    return "adapter" if adapted and "lora_" in name else "base"


def forward(model: nn.Module, batch: Batch) -> Output:
    """Logits and summed losses of a batch, from a forward outside the trainer."""
    output = model(**{name: batch[name] for name in FIELDS})
    return sums(model, batch, output.logits)


def sums(model: nn.Module, batch: Batch, logits: torch.Tensor) -> Output:
    """The losses of a batch as sums, with the divisor of each."""
    output = of_tokens(logits, batch)
    holder = next((it for it in model.modules() if isinstance(it, WithHead)), None)
    if holder is None:
        return output
    mask = batch["attention_mask"]
    output.losses["projection"], output.weights["projection"] = holder.head_loss(mask), int((mask.sum(1) > 0).sum())
    return output._replace(head=holder.pooled)


def recomputes(model: torch.nn.Module) -> bool:
    """Whether a model recomputes activations in its backward pass; transformers has renamed the attribute."""
    names = ("is_activation_checkpointing", "is_gradient_checkpointing")
    return bool(getattr(model, next(name for name in names if hasattr(model, name))))


def cache_bytes(cache: Any) -> int:
    """Bytes of a key-value cache, in any of the forms that transformers has given it."""
    if cache is None:
        return 0
    if hasattr(cache, "layers"):
        held = [value for layer in cache.layers for value in (layer.keys, layer.values)]
    elif hasattr(cache, "key_cache"):
        held = [*cache.key_cache, *cache.value_cache]
    else:
        held = [value for layer in cache for value in layer]
    return sum(value.numel() * value.element_size() for value in held if torch.is_tensor(value))
