"""A plan as the `TrainingArguments` of Hugging Face's Trainer."""

from __future__ import annotations

from dataclasses import fields

from transformers import TrainingArguments

from .protocol import Plan

# The Trainer's plain "constant" has no warm-up.
SCHEDULES = {"constant": "constant_with_warmup", "linear": "linear", "cosine": "cosine"}


def arguments(plan: Plan, unsaved: str) -> TrainingArguments:
    """The plan as `TrainingArguments`. An argument that this version of transformers does not have is left out.

    The Trainer makes its folder even if it saves nothing: `unsaved` is that folder then."""
    train, data, optimizer = plan["train"], plan["data"], plan["train"]["optimizer"]
    stop = plan.get("stop") or {}
    wanted = {
        "output_dir": stop.get("save") or plan.get("save_to") or unsaved,
        "num_train_epochs": data["epochs"],
        "per_device_train_batch_size": data["batch"],
        "per_device_eval_batch_size": data["batch"],
        "gradient_accumulation_steps": train["accumulation"],
        "learning_rate": optimizer["lr"],
        "adam_beta1": optimizer["betas"][0],
        "adam_beta2": optimizer["betas"][1],
        "adam_epsilon": optimizer["eps"],
        "weight_decay": optimizer["decay"],
        "optim": "adamw_torch",
        "max_grad_norm": train.get("clip") or 0.0,
        "lr_scheduler_type": SCHEDULES[train["schedule"]["name"]],
        "warmup_steps": train["schedule"]["warmup"],
        "max_steps": train["schedule"].get("updates") or -1,
        "gradient_checkpointing": train.get("checkpointing", False),
        "dataloader_drop_last": data["drop_last"],
        "seed": plan["seed"] % 2**32,
        # The callback says when to save and to evaluate, as the plan asks.
        "save_strategy": "no",
        "logging_strategy": "no",
        "report_to": [],
        "disable_tqdm": True,
        "use_cpu": True,
        # The sample ids are a column that the model does not take.
        "remove_unused_columns": False,
        "label_names": ["labels"],
        "prediction_loss_only": True,
    }
    supported = {field.name for field in fields(TrainingArguments)}
    return TrainingArguments(**{name: value for name, value in wanted.items() if name in supported})
