"""Whole models, bare and under PEFT: logits, losses, gradients, and parameters after 1, 2 and 20 updates of a loop."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import nn
from torch.nn import functional

from data import Batch, collate, windows
from golden import distance, figure, figures, in_our_layout, initialise, norm, parameters, write
from model import Model, Rules, losses
from optimizer import Tensors, adamw, bare, clip_each, clip_global, groups
from schedules import scheduled

SHOWN = (1, 2, 20)
# One of a single token's text, one without a token, one that is cut, a last micro-batch that is smaller.
SAMPLES = [
    [1, 10, 11, 12, 2],
    [1, 13, 2],
    [1, 14, 15, 16, 17, 18, 2],
    [],
    [1, 19, 20, 2],
    [1, 21, 22, 23, 24, 25, 26, 27, 2],
    [1, 28, 29, 2],
    [1, 30, 31, 4, 5, 2],
    [1, 6, 7, 8, 9, 10, 2],
]
# What the gradients are compared on; the empty one is among them.
BATCH = [0, 1, 2, 3, 4, 5]


def plan(size: str, side: str, multiple_of: int, adapters: dict | None = None) -> dict:
    """A plan as the reference trainer reads it. Its `eps` is large, so that no update hangs on a gradient's last bits."""
    tokens = {"pad": 3, "bos": 1, "eos": 2, "vocabulary": 32}
    padding = {"policy": "longest", "side": side, "multiple_of": multiple_of}
    optimizer = {"name": "adamw", "lr": 0.02, "betas": [0.9, 0.999], "eps": 0.1, "decay": 0.2}
    return {
        "schema": 1,
        "scenario": "golden",
        "run": size,
        "seed": 1,
        "data": {
            "samples": SAMPLES,
            "tokens": tokens,
            "batch": 2,
            "epochs": 8,
            "shuffle": False,
            "padding": padding,
            "max_length": 8,
            "drop_last": False,
        },
        "train": {
            "accumulation": 2,
            "optimizer": optimizer,
            "clip": 1.0,
            "schedule": {"name": "linear", "warmup": 4, "updates": None},
            "adapters": adapters,
            "heads": ["projection"],
        },
        "model": {"size": size},
    }


@dataclass(frozen=True)
class Loop:
    """The choices of a training loop, the right ones; a known bug is one of them replaced."""

    optimizer: Callable = adamw
    clip: Callable = clip_global
    decays_everything: bool = False
    divides_each: bool = False
    steps_each: bool = False


def scaled(model: nn.Module, batch: Batch, targets: int, samples: int) -> torch.Tensor:
    lm, head = losses(model, batch)
    return lm / targets + head / samples


def update(model: nn.Module, window: list[Batch], divides_each: bool):
    """The gradient of a window: each sum divided once by what the whole window counts to."""
    model.zero_grad()
    for batch in window:
        counted = [batch] if divides_each else window
        targets, samples = sum(it.target_count for it in counted), sum(it.sample_count for it in counted)
        share = len(window) if divides_each else 1
        scaled(model, batch, targets * share, samples * share).backward()


def train(model: nn.Module, plan: dict, loop: Loop = Loop()) -> dict[int, Tensors]:
    """The trained parameters after each number of updates that is shown."""
    trained = {name: it for name, it in parameters(model).items() if it.requires_grad}
    settings = {key: plan["train"]["optimizer"][key] for key in ("lr", "betas", "eps")}
    decay = plan["train"]["optimizer"]["decay"]
    optimizer = loop.optimizer(groups(trained, decay, loop.decays_everything), **settings)
    schedule, seen, all_windows = plan["train"]["schedule"], {}, windows(plan)
    rates = scheduled(schedule["name"], optimizer, schedule["warmup"], len(all_windows))
    for number, window in enumerate(all_windows[: max(SHOWN)], start=1):
        update(model, window, loop.divides_each)
        loop.clip(list(trained.values()), plan["train"]["clip"])
        # The rate of update s is that after s steps of the schedule: the first update is no empty one.
        for _ in window if loop.steps_each else [None]:
            rates.step()
        optimizer.step()
        seen[number] = in_our_layout(trained)
    return seen


LOOP_BUGS = {
    "decays-vectors": Loop(decays_everything=True),
    "decay-coupled": Loop(optimizer=bare(coupled=True)),
    "not-corrected": Loop(optimizer=bare(corrected=False)),
    "eps-inside-the-root": Loop(optimizer=bare(eps_in_root=True)),
    "unclipped": Loop(clip=lambda parameters, most: None),
    "clip-per-tensor": Loop(clip=clip_each),
    "mean-of-means": Loop(divides_each=True),
    "schedule-per-micro-batch": Loop(steps_each=True),
}


class SlopeOfTanh(torch.autograd.Function):
    """GELU, and the slope of its approximation."""

    @staticmethod
    def forward(context, x):
        context.save_for_backward(x)
        return functional.gelu(x)

    @staticmethod
    def backward(context, pull):
        with torch.enable_grad():
            x = context.saved_tensors[0].detach().requires_grad_()
            return pull * torch.autograd.grad(functional.gelu(x, approximate="tanh").sum(), x)[0]


def causal(real: torch.Tensor) -> torch.Tensor:
    width = real.shape[1]
    return torch.ones(1, 1, width, width, dtype=torch.bool).tril()


RULE_BUGS = {
    "gelu-of-tanh": Rules(gelu=lambda x: functional.gelu(x, approximate="tanh")),
    "gelu-slope-of-tanh": Rules(gelu=SlopeOfTanh.apply),
    "pooled-over-padding": Rules(pool=lambda hidden, real: hidden.mean(dim=1)),
}
# No token comes after padding on the right.
LEFT_BUGS = {"padding-attended": Rules(allowed=causal)}


def seen(model: nn.Module, plan: dict) -> tuple[dict, Tensors]:
    """What one forward and backward of the batch gives: figures, and gradients of the mean losses' sum."""
    batch = collate(plan, BATCH)
    model.zero_grad()
    hidden = model(batch)
    logits = model.lm_head(hidden[: batch.anchors])[batch.real[: batch.anchors]]
    lm, head = losses(model, batch)
    (lm / batch.target_count + head / batch.sample_count).backward()
    gradients = {name: it.grad for name, it in parameters(model).items() if it.requires_grad}
    document = {
        "losses": {"lm": figures(lm), "projection": figures(head)},
        "logits": figures(logits),
        "vectors": figures(model.vectors(hidden, batch)),
    }
    return document, in_our_layout(gradients)


def gradients_of(build: Callable, plan: dict) -> Tensors:
    return seen(build(), plan)[1]


def named(set_name: str, tensors: Tensors) -> Tensors:
    return {f"{set_name}/{name}": it for name, it in tensors.items()}


def whole(folder: Path, name: str, plan: dict, build: Callable[[Rules], nn.Module], trains: bool, files=(), also={}):
    """A model's golden. `build` makes it anew, with its initial parameters, from some rules; `also` are further bugs."""
    right = build(Rules())
    document, gradients = seen(right, plan)
    tensors = named("initial", in_our_layout(parameters(right))) | named("gradient", gradients)
    rules = RULE_BUGS | (LEFT_BUGS if plan["data"]["padding"]["side"] == "left" else {})
    wrong = {bug: (lambda it=it: build(it)) for bug, it in rules.items()} | also
    bugs = {bug: distance(gradients_of(make, plan), gradients) / norm(gradients) for bug, make in wrong.items()}
    document |= {"gradient_bugs": {bug: figure(it, 4) for bug, it in bugs.items()}}
    if trains:
        after = train(build(Rules()), plan)
        tensors |= {key: it for at in SHOWN for key, it in named(f"after-{at}", after[at]).items()}
        last = max(SHOWN)
        bugs = {bug: train(build(Rules()), plan, loop)[last] for bug, loop in LOOP_BUGS.items()}
        bugs = {bug: figure(distance(it, after[last]), 4) for bug, it in bugs.items()}
        document |= {"shown": SHOWN, "update_bugs": bugs}
    write(folder, name, {"plan": plan, "batch": BATCH} | document, tensors, files)


def bare_model(plan: dict, rules: Rules) -> nn.Module:
    model = Model(plan, rules).double()
    initialise(model, plan["model"]["size"])
    return model


def adapted(plan: dict, rules: Rules, name: str, rs: bool | None = None, keep: Path | None = None) -> nn.Module:
    """The model under PEFT's adapters and saved head; with `keep`, they are written there in PEFT's own way."""
    adapters = plan["train"]["adapters"]
    config = LoraConfig(
        r=adapters["r"],
        lora_alpha=adapters["alpha"],
        use_rslora=adapters["rs"] if rs is None else rs,
        target_modules=adapters["targets"],
        modules_to_save=plan["train"]["heads"],
    )
    wrapped = get_peft_model(Model(plan, rules), config)
    model = wrapped.get_base_model()
    initialise(model, name)
    if keep:
        wrapped.save_pretrained(keep)
        # A card for a model hub.
        (keep / "README.md").unlink(missing_ok=True)
    return model.double()


def under_peft(folder: Path, name: str, adapters: dict, side: str, multiple_of: int):
    of = plan("tiny", side, multiple_of, adapters)
    adapted(of, Rules(), name, keep=folder / name)
    files = [f"{name}/{file.name}" for file in (folder / name).iterdir()]
    also = {"other-scale": lambda: adapted(of, Rules(), name, rs=not adapters["rs"])}
    build = lambda rules: adapted(of, rules, name)
    whole(folder, name, of, build, trains=True, files=files, also=also)


def generate(folder: Path):
    with warnings.catch_warnings():
        # The schedule steps before the optimizer, on purpose.
        warnings.simplefilter("ignore")
        tiny, deep = plan("tiny", "left", 1), plan("deep", "left", 4)
        whole(folder, "tiny", tiny, lambda rules: bare_model(tiny, rules), trains=True)
        whole(folder, "deep", deep, lambda rules: bare_model(deep, rules), trains=False)
        lora = {"r": 2, "alpha": 16, "rs": False, "targets": ["q", "v"]}
        under_peft(folder, "lora", lora, "left", 4)
        rslora = {"r": 4, "alpha": 4, "rs": True, "targets": ["q", "k", "v", "o", "up", "down"]}
        under_peft(folder, "rslora", rslora, "right", 1)
