"""The tiny causal model of a plan as transformers and PEFT make it: nothing is downloaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional

import torch
from torch import nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from ..batches import IGNORED
from .data import Batch
from .tiny import HEAD_WIDTH, SIZES, Output

MODULES = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "o": "o_proj", "up": "up_proj", "down": "down_proj"}
FIELDS = ("input_ids", "attention_mask", "labels")


class WithHead(LlamaForCausalLM):
    """A causal model with a projection of the mean over each row's tokens, trained beside it."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__(config)
        self.projection = nn.Linear(config.hidden_size, HEAD_WIDTH)
        self.pooled: Optional[torch.Tensor] = None

    def forward(self, input_ids: Any = None, attention_mask: Any = None, labels: Any = None, **more: Any) -> Any:
        # Not left in the output: a Trainer that evaluates would gather it.
        output = super().forward(
            input_ids=input_ids, attention_mask=attention_mask, labels=labels, **{**more, "output_hidden_states": True}
        )
        mask = attention_mask.to(output.logits.dtype)
        tokens = mask.sum(1, keepdim=True)
        self.pooled = self.projection((output.hidden_states[-1] * mask[..., None]).sum(1) / tokens.clamp(min=1))
        if self.training and output.loss is not None:
            mean = self.head_loss(mask) / (tokens > 0).sum().clamp(min=1)
            # Where the window's targets are known, the loss is this micro-batch's share of the window's mean.
            window = more.get("num_items_in_batch")
            share = 1.0 if window is None else (labels[:, 1:] != IGNORED).sum() / window
            output.loss = output.loss + mean * share
        output.hidden_states = None
        return output

    def head_loss(self, mask: torch.Tensor) -> torch.Tensor:
        """Summed over the rows that have a token."""
        return ((self.pooled - 1.0).square().mean(1) * (mask.sum(1) > 0)).sum()


def build(plan: Dict[str, Any], weights: Optional[Path]) -> nn.Module:
    """The model of a plan; its adapters and head, or all of it, from a checkpoint's folder where `weights` names one."""
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
    """`base`, `adapter` or the head's name, from a parameter's name. PEFT keeps the head it was given beside its copy."""
    if "projection" in name and "original_module" not in name:
        return "projection"
    return "adapter" if adapted and "lora_" in name else "base"


def forward(model: nn.Module, batch: Batch) -> Output:
    """Logits and summed losses of a batch, taken outside the trainer."""
    output = model(**{name: batch[name] for name in FIELDS})
    return sums(model, batch, output.logits)


def sums(model: nn.Module, batch: Batch, logits: torch.Tensor) -> Output:
    """The losses of a batch, summed over what they are to be divided by."""
    labels = batch["labels"][:, 1:]
    flat = logits[:, :-1].float().flatten(0, 1)
    lm = F.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="sum")
    losses, weights = {"lm": lm}, {"lm": int((labels != IGNORED).sum())}
    holder = next((it for it in model.modules() if isinstance(it, WithHead)), None)
    if holder is None:
        return Output(logits, None, losses, weights)
    mask = batch["attention_mask"]
    losses["projection"], weights["projection"] = holder.head_loss(mask), int((mask.sum(1) > 0).sum())
    return Output(logits, holder.pooled, losses, weights)
