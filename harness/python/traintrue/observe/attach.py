"""Connects a session to torch: each hook, and each public function that is wrapped."""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import inspect
import os
import shutil
import warnings
from typing import Any, Callable

from .draws import Iteration
from .patches import Patches
from .session import Session


def attach(session: Session) -> Patches:
    """Observes torch for `session`, until the patches are released."""
    import torch

    patches = Patches()
    # The script prints what it prints alone. The warning is about our hooks, which let a compiled module's second call through.
    warnings.filterwarnings("ignore", message="Using `torch.compile.module.` when there are global hooks")
    session.models.watch(patches, importlib.import_module("torch.nn.modules.module"))
    session.losses.watch(patches, torch.nn.functional)
    session.schedules.watch(patches, importlib.import_module("torch.optim.lr_scheduler"))
    if torch.distributed.is_available():
        session.ranks.watch(patches, importlib.import_module("torch.nn.parallel.distributed"))
    _optimizers(session, patches, importlib.import_module("torch.optim.optimizer"))
    patches.wrap(torch.autograd, "backward", functools.partial(_backward, session))
    patches.wrap(torch.utils.data.DataLoader, "__iter__", functools.partial(_loader, session))
    _clips(session, patches, torch.nn.utils)
    _scalers(session, patches, torch)
    _seeds(session, patches, torch)
    _checkpoints(session, patches, torch)
    session.recomputed.watch(patches, importlib.import_module("torch.utils.checkpoint"))
    patches.wrap(torch.jit, "script", functools.partial(_scripting, patches))
    patches.wrap(importlib.import_module("torch.optim.swa_utils"), "update_bn", functools.partial(_apart, session))
    return patches


def _apart(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    # Forwards that measure the statistics of batch norms, in training mode: neither training nor an evaluation.
    def function(*args: Any, **named: Any) -> Any:
        before, session.models.paused = session.models.paused, True
        try:
            return original(*args, **named)
        finally:
            session.models.paused = before

    return function


def _scripting(patches: Patches, original: Callable[..., Any]) -> Callable[..., Any]:
    # It compiles the source of what a function calls: torch's own, not ours.
    def script(*args: Any, **named: Any) -> Any:
        with patches.lifted():
            return original(*args, **named)

    return script


def _after(session: Session, call: Callable[..., None], *names: str) -> Callable[..., Any]:
    """A wrapper that calls `call(result, *given)` after the original: with the arguments of these names, or with all of them in
    the caller's order."""

    def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original) if names else None

        def function(*args: Any, **named: Any) -> Any:
            result = original(*args, **named)
            if session.here():
                given = [*args, *named.values()]
                if signature is not None:
                    bound = signature.bind(*args, **named).arguments
                    given = [bound.get(name) for name in names]
                session.guard(call, result, *given)
            return result

        return function

    return wrapper


def _optimizers(session: Session, patches: Patches, module: Any) -> None:
    patches.wrap(module.Optimizer, "__init__", _after(session, lambda _, it, *__: session.optimizer_made(it)))

    def before(optimizer: Any, args: Any, named: Any) -> None:
        if session.here():
            session.guard(session.step_begins, optimizer, args, named)

    def after(optimizer: Any, args: Any, named: Any) -> None:
        if session.here():
            session.guard(session.step_ends, optimizer, args, named)

    patches.hook(module.register_optimizer_step_pre_hook(before))
    patches.hook(module.register_optimizer_step_post_hook(after))

    def loaded(_result: Any, _optimizer: Any, state: Any = None, *_: Any) -> None:
        # accelerate loads the empty state of a new optimizer into it, to move it to a device.
        if state is None or state.get("state"):
            session.loaded()

    patches.wrap(module.Optimizer, "load_state_dict", _after(session, loaded))


def _backward(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    depth = 0

    def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **named: Any) -> Any:
        nonlocal depth
        # Reentrant checkpointing runs a backward pass inside a backward pass: the outer one counts.
        if depth or not session.here():
            return original(tensors, grad_tensors, *args, **named)
        session.guard(session.backward_begins, tensors, grad_tensors)
        depth, session.models.paused = 1, True
        try:
            result = original(tensors, grad_tensors, *args, **named)
        finally:
            depth, session.models.paused = 0, False
            session.models.outside()
        session.guard(session.backward_ends)
        return result

    return backward


def _loader(session: Session, original: Callable[..., Any]) -> Callable[..., Any]:
    def iterate(loader: Any) -> Any:
        # Before the iterator is made: its first act may be to fetch ahead.
        known = session.guard(session.draws.begins, loader) if session.here() else None
        batches = original(loader)
        return batches if known is None else Iteration(batches, known, session.draws)

    return iterate


def _clips(session: Session, patches: Patches, utils: Any) -> None:
    def clipping(by_value: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        def wrapper(original: Callable[..., Any]) -> Callable[..., Any]:
            signature = inspect.signature(original)

            def clip(*args: Any, **named: Any) -> Any:
                given = signature.bind(*args, **named)
                given.apply_defaults()
                how = given.arguments
                # The parameters may be a generator, which can be read once only.
                alone = hasattr(how["parameters"], "grad")
                how["parameters"] = held = [how["parameters"]] if alone else list(how["parameters"])
                norm = original(*given.args, **given.kwargs)
                if session.here():
                    limit, kind = how["clip_value" if by_value else "max_norm"], how.get("norm_type", 2.0)
                    session.guard(session.clipped, held, float(limit), norm, by_value, float(kind))
                return norm

            return clip

        return wrapper

    for owner in {utils, importlib.import_module("torch.nn.utils.clip_grad")}:
        patches.wrap(owner, "clip_grad_norm_", clipping(False))
        patches.wrap(owner, "clip_grad_value_", clipping(True))


def _scalers(session: Session, patches: Patches, torch: Any) -> None:
    # Since torch 2.3 there is one class; before, CUDA's was the base.
    kind = getattr(torch.amp, "GradScaler", None) or torch.cuda.amp.GradScaler

    def scaled(_result: Any, scaler: Any, *_: Any) -> None:
        if scaler.is_enabled():
            session.scaler = scaler

    def stepping(original: Callable[..., Any]) -> Callable[..., Any]:
        def step(scaler: Any, optimizer: Any, *args: Any, **named: Any) -> Any:
            before = session.step
            result = original(scaler, optimizer, *args, **named)
            if session.here() and session.step == before and scaler.is_enabled():
                session.guard(session.skipped, optimizer)
            return result

        return step

    if session.compared is not None:
        patches.wrap(kind, "__init__", _after(session, lambda _, it, *__: session.compared.scaler_made(it)))
    patches.wrap(kind, "scale", _after(session, scaled))
    patches.wrap(kind, "unscale_", _after(session, lambda _, __, optimizer, *___: session.unscaled(optimizer)))
    patches.wrap(kind, "step", stepping)


def _seeds(session: Session, patches: Patches, torch: Any) -> None:
    module = importlib.import_module("torch.random")
    forks = 0

    def seeded(_result: Any, seed: Any, *_: Any) -> None:
        if not forks:
            session.seeded(int(seed) % 2**53)

    def restored(*_: Any) -> None:
        # Checkpointing of activations restores the state for its own forward only, inside a fork.
        if not forks:
            session.restored()

    def forking(original: Callable[..., Any]) -> Callable[..., Any]:
        @contextlib.contextmanager
        def fork(*args: Any, **named: Any) -> Any:
            nonlocal forks
            # What is seeded inside is undone at the end.
            forks += 1
            try:
                with original(*args, **named) as value:
                    yield value
            finally:
                forks -= 1

        return fork

    for owner in (torch, module):
        patches.wrap(owner, "manual_seed", _after(session, seeded))
        patches.wrap(owner, "set_rng_state", _after(session, restored))
    patches.wrap(module, "fork_rng", forking)


def _checkpoints(session: Session, patches: Patches, torch: Any) -> None:
    storages = (torch.UntypedStorage, torch.storage.TypedStorage)

    def saved(_result: Any, state: Any, to: Any) -> None:
        # pickle saves each storage of a tensor by itself.
        if not isinstance(state, storages):
            session.saved(state, to)

    patches.wrap(torch, "save", _after(session, saved, "obj", "f"))
    patches.wrap(torch.nn.Module, "load_state_dict", _after(session, lambda *_: session.loaded()))
    if session.compared is None:
        return
    loaded = session.compared.saves.loaded
    patches.wrap(torch, "load", _after(session, lambda _, source: loaded(source), "f"))
    for owner, name in ((os, "rename"), (os, "replace")):
        patches.wrap(owner, name, _after(session, lambda _, source, to: session.moved(source, to, keeps=False), "src", "dst"))
    for owner, name in ((os, "link"), (shutil, "copy"), (shutil, "copy2"), (shutil, "copyfile"), (shutil, "copytree")):
        patches.wrap(owner, name, _after(session, lambda _, source, to: session.moved(source, to, keeps=True), "src", "dst"))
    for owner, name in ((os, "remove"), (os, "unlink"), (shutil, "rmtree")):
        patches.wrap(owner, name, _after(session, lambda _, path: session.removed(path), "path"))
    if importlib.util.find_spec("safetensors") is not None:
        files = importlib.import_module("safetensors.torch")
        patches.wrap(files, "save_file", _after(session, saved, "tensors", "filename"))
        patches.wrap(files, "load_file", _after(session, lambda _, source: loaded(source), "filename"))
