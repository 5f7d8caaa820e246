"""AdamW with decay groups and clipping by the global norm, twenty updates from given gradients, with PyTorch's defaults.

The gradients are small and of many norms, and the clip is smaller still: what is added to the norm that is divided by shows.
"""

import random
from pathlib import Path
from typing import Callable

import torch

from golden import distance, figure, uniform, write

UPDATES = 20
SHOWN = (1, 2, 20)
CLIP = 1e-4
SETTINGS = dict(lr=1e-2, betas=(0.9, 0.999), eps=1e-8)
DECAY = 0.1
SHAPES = {"matrix": (3, 4), "other_matrix": (4, 2), "bias": (5,)}

Tensors = dict[str, torch.Tensor]


def groups(parameters: dict[str, torch.nn.Parameter], decay: float, everything: bool = False) -> list[dict]:
    """Biases and norms are not decayed: they are vectors."""
    decayed = [it for it in parameters.values() if everything or it.dim() > 1]
    others = [it for it in parameters.values() if not everything and it.dim() == 1]
    return [{"params": decayed, "weight_decay": decay}, {"params": others, "weight_decay": 0.0}]


def clip_global(parameters: list[torch.nn.Parameter], most: float):
    torch.nn.utils.clip_grad_norm_(parameters, most, foreach=False)


def clip_without_eps(parameters: list[torch.nn.Parameter], most: float):
    norm = torch.stack([it.grad.norm() for it in parameters]).norm()
    for it in parameters:
        it.grad *= min(1.0, most / float(norm))


def clip_each(parameters: list[torch.nn.Parameter], most: float):
    for it in parameters:
        clip_global([it], most)


class Bare(torch.optim.Optimizer):
    """AdamW written out, so that it can be written wrong."""

    def __init__(self, groups, lr, betas, eps, corrected=True, eps_in_root=False, coupled=False):
        super().__init__(groups, dict(lr=lr, betas=betas, eps=eps, weight_decay=0.0))
        self.corrected, self.eps_in_root, self.coupled = corrected, eps_in_root, coupled

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for it in group["params"]:
                self.update(it, group)

    def update(self, it: torch.nn.Parameter, group: dict):
        state, (beta1, beta2) = self.state[it], group["betas"]
        if not state:
            state.update(count=0, first=torch.zeros_like(it), second=torch.zeros_like(it))
        state["count"] += 1
        gradient = it.grad + group["weight_decay"] * it if self.coupled else it.grad
        state["first"] = beta1 * state["first"] + (1 - beta1) * gradient
        state["second"] = beta2 * state["second"] + (1 - beta2) * gradient**2
        correct = lambda beta: 1 - beta ** state["count"] if self.corrected else 1.0
        second = state["second"] / correct(beta2)
        root = (second + group["eps"]).sqrt() if self.eps_in_root else second.sqrt() + group["eps"]
        if not self.coupled:
            it *= 1 - group["lr"] * group["weight_decay"]
        it -= group["lr"] * state["first"] / correct(beta1) / root


def adamw(groups: list[dict], **settings) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, foreach=False, **settings)


def bare(**bug) -> Callable:
    return lambda groups, **settings: Bare(groups, **settings, **bug)


def run(
    initial: Tensors, gradients: list[Tensors], make=adamw, clip=clip_global, everything=False
) -> dict[int, Tensors]:
    """The parameters after each number of updates."""
    parameters = {name: torch.nn.Parameter(it.clone()) for name, it in initial.items()}
    optimizer = make(groups(parameters, DECAY, everything), **SETTINGS)
    seen = {}
    for number, of in enumerate(gradients, start=1):
        for name, it in parameters.items():
            it.grad = of[name].clone()
        clip(list(parameters.values()), CLIP)
        optimizer.step()
        seen[number] = {name: it.detach().clone() for name, it in parameters.items()}
    return seen


def generate(folder: Path):
    initial = {name: uniform(f"optimizer/{name}", shape, 0.5) for name, shape in SHAPES.items()}
    sizes = random.Random("optimizer/sizes")
    scales = [CLIP * 10 ** sizes.uniform(-0.5, 2) for _ in range(UPDATES)]
    draw = lambda number, name, shape: uniform(f"optimizer/{number}/{name}", shape, 0.3 * scales[number])
    gradients = [{name: draw(number, name, shape) for name, shape in SHAPES.items()} for number in range(UPDATES)]
    right = run(initial, gradients)
    wrong = {
        "decays-vectors": dict(everything=True),
        "decay-coupled": dict(make=bare(coupled=True)),
        "not-corrected": dict(make=bare(corrected=False)),
        "eps-inside-the-root": dict(make=bare(eps_in_root=True)),
        "clip-without-eps": dict(clip=clip_without_eps),
        "clip-per-tensor": dict(clip=clip_each),
        "unclipped": dict(clip=lambda parameters, most: None),
    }
    assert distance(run(initial, gradients, make=bare())[UPDATES], right[UPDATES]) < 1e-12
    of = lambda bug: distance(run(initial, gradients, **bug)[UPDATES], right[UPDATES])
    document = {
        **SETTINGS,
        "clip": CLIP,
        "decay": DECAY,
        "updates": UPDATES,
        "shown": SHOWN,
        "bugs": {name: figure(of(bug), 4) for name, bug in wrong.items()},
    }
    tensors = {f"initial/{name}": it for name, it in initial.items()}
    tensors |= {f"gradient-{at}/{name}": it for at, of in enumerate(gradients, start=1) for name, it in of.items()}
    tensors |= {f"after-{number}/{name}": it for number in SHOWN for name, it in right[number].items()}
    write(folder, "optimizer", document, tensors)
