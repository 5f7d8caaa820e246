"""Turns what is observed of a script into the events of a trace."""

from __future__ import annotations

import math
import os
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence

from .. import batches, scalers
from ..declared import checked, contract_of, recorded_facts
from ..memory import ALWAYS, Memory
from ..tensors import Torch
from ..trace import SCHEMA, Writer, failure, number
from ..updates import has_closure
from . import frameworks
from .around import Around
from .averages import Averages
from .compared import Compared
from .cut import Cut
from .draws import Draw, Draws
from .losses import Losses
from .models import Models, Owner
from .patches import Guard
from .ranks import Ranks
from .rates import Rates
from .recomputed import Recomputed
from .schedules import Schedules
from .states import States
from .windows import MicroBatch, Window

# What every update of a loop does alike is measured at so many first updates, and then at each that is digested: the norm
# after clipping. The norm after the last backward pass is measured at these only.
EARLY = 8
# So many first updates are digested where ranks are compared.
EARLY_OF_RANKS = 16


class Session:
    """The observation of one process, from the first training forward to its end.

    The trace is opened by `opens` when training begins: a script that trains nothing leaves no file.
    """

    def __init__(
        self, opens: Callable[[], Any], declared: Mapping[str, Any], digest_every: int = 10, cut: Optional[Cut] = None, counts: int = 0
    ) -> None:
        if digest_every < 1:
            raise ValueError(f"digest_every: {digest_every}, expected at least 1")
        self._opens, self._declared, self._digest_every = opens, checked(declared), digest_every
        self._contract = contract_of(self._declared.pop("contract", None))
        self._rates = Rates(self._declared.pop("rates", None))
        self._process = os.getpid()
        self.guard = Guard()
        self._tensors = Torch()
        # First updates at which live tensors are counted; later, and by default, where parameters are checksummed.
        self._counts = counts
        self._windows: List[Window] = []
        self.states = States(self._windows, self._tensors, whole=cut is not None)
        self.draws = Draws(self._tensors, self.guard, contents=cut is not None)
        self.losses = Losses(self._tensors, self.guard)
        self.averages = Averages(self._tensors)
        self.models = Models(self._tensors, self.guard, self._forward_begins, self._forward_ends, self._other_forward)
        self.compared = None if cut is None else Compared(cut, self.states, self.averages, self._tensors, self.guard, self._fields)
        self.recomputed = Recomputed(self._tensors, self.guard)
        self.schedules = Schedules(self.guard)
        self.ranks = Ranks(self._tensors, self.guard)
        self._writer: Optional[Writer] = None
        self._memory: Optional[Memory] = None
        self.step = 0
        self._next_state = digest_every
        self._open: Optional[MicroBatch] = None
        self._draw: Optional[Draw] = None
        # Of the forwards since the last backward pass.
        self._forwarded = self._matched = False
        self._sees_forwards = False
        self._inputs: Any = None
        # What the rows of the last training forward are, where ranks are compared.
        self._content: Optional[List[int]] = None
        self._modes: Dict[Owner, Dict[str, int]] = {}
        self._epochs: Dict[Optional[int], Epoch] = {}
        self._index = 0
        self._evaluation: Optional[Dict[str, Any]] = None
        self._around = Around(self.states.fingerprint)
        self._marks: List[Any] = []
        # The GradScaler that scaled the next backward pass's loss, and the scale of the last one.
        self.scaler: Optional[Any] = None
        self._scale = 1.0
        self._stepping: List[Any] = []
        self._closed = False

    def here(self) -> bool:
        """Whether this process is the one that is observed: a forked worker is not."""
        return not self._closed and os.getpid() == self._process

    # Optimizers.

    def optimizer_made(self, optimizer: Any) -> Window:
        """A script has made an optimizer, or an optimizer that may not have been seen before steps."""
        known = self._window(optimizer)
        if known is not None:
            return known
        window = Window(len(self._windows), optimizer, self._tensors)
        same = {id(it) for it in window.parameters()}
        # Without a state, as SGD's without momentum, nothing begins anew.
        earlier = [it for it in self._windows if it.has_state and it.kind == window.kind]
        window.remade = bool(same) and any(it.held == same for it in earlier)
        self._windows.append(window)
        self._rates.optimizer_made(optimizer)
        self.models.hold(self.states.held())
        return window

    def _window(self, optimizer: Any) -> Optional[Window]:
        return next((it for it in self._windows if it.optimizer() is optimizer), None)

    # Forwards.

    def _forward_begins(self, owner: Owner) -> None:
        if not self.here():
            return
        if self._tensors.grad_enabled():
            self.end_evaluation()
            self._before_micro_batch()
            changed = self._around.training_forward()
            for it in self.states.alive() if changed is not None else []:
                it.parameters_changed = changed or bool(it.parameters_changed)
                it.swapped = self._around.swapped()
        elif self.states.known and self._evaluation is None:
            before = self.states.fingerprint()
            self._around.evaluates(before)
            self.averages.model_evaluated = True
            self._evaluation = {"digest_before": before, "modes": owner.modes(())}
        elif self._evaluation is not None:
            # Some of its forwards may be in training mode on purpose, such as those that measure batch norms anew.
            self._evaluation["modes"] = max(self._evaluation["modes"], owner.modes(()), key=lambda it: it["evaluation"])
        if self._evaluation is not None:
            for it in self.states.alive():
                it.evaluates()

    def _other_forward(self, module: Any) -> None:
        if self.here() and not self._tensors.grad_enabled():
            self.averages.evaluated(module, self.step)

    def _before_micro_batch(self) -> None:
        """Everything that belongs to the micro-batch before is done when the next one begins."""
        compared = self.compared
        if compared is None:
            return
        compared.forward(is_open=self._writer is not None)
        if compared.next():
            self._left()
            if compared.is_here():
                self.settle()
                compared.cut.end()
            compared.random = self._tensors.rng()

    def _forward_ends(self, owner: Owner, inputs: Any, output: Any) -> None:
        if not self.here():
            return
        if not self._tensors.grad_enabled():
            self._evaluated(inputs)
            return
        self._sees_forwards = True
        draw = self.draws.match(inputs, training=True, first=not self._matched)
        self._matched = self._matched or draw is not None
        self._draw = draw or self._draw
        # By owner: a forward in evaluation mode with gradients, and no backward pass, may have come before.
        self._modes[owner] = owner.modes(self.models.frozen)
        self._inputs = None if self.draws.any() else inputs
        if self.ranks.tells(self.step):
            self._content = self.guard(batches.content_ids, inputs, self._tensors)
        self.losses.output(output)
        self._forwarded = True

    # Backward passes.

    def backward_begins(self, roots: Any, factors: Any) -> None:
        """`torch.autograd.backward` is called on these tensors, each with a factor or none."""
        self.models.outside()
        self.end_evaluation()
        alive = self.states.alive()
        if not alive:
            return
        held = [roots] if self._tensors.is_tensor(roots) else list(roots)
        if any(it.is_meta for it in held if self._tensors.is_tensor(it)):
            # Tensors without values, as for counting operations: nothing trains.
            self.losses.take()
            return
        self._start()
        if self._open is None or self._forwarded or not self._sees_forwards:
            self.settle()
            self._before_micro_batch()
            if self.compared is not None:
                self.compared.micro_batch()
            seen = self._seen()
            seen = {**seen, "targets": 0} if self.losses.has_no_targets() else seen
            self._open = MicroBatch(seen, self.losses.take())
            self.guard(self.averages.micro_batch, all(not it.members or it.members[-1].used for it in alive))
        self._forwarded = self._matched = False
        for it in alive:
            it.settle()
        self.states.trained()
        self._marks = [(it, it.marks()) for it in alive]
        self.ranks.backward_begins(self._open, self.step)
        scaler, self.scaler = self.scaler, None
        scale = self._scale = 1.0 if scaler is None else float(scaler.get_scale())
        root = self._tensors.scalar(held, factors)
        if root is not None:
            self._open.roots.append((root, scale))

    def backward_ends(self) -> None:
        """The backward pass is done."""
        marks, self._marks = self._marks, []
        self.states.arrived()
        if self.states.all_arrived():
            self.models.ran = None
        if self._open is None:
            return
        reached = [it for it, before in marks if it.reached(before)]
        self._open.empty = bool(reached) and all(it.is_clear() for it in reached)
        self.guard(self.ranks.backward_ends, reached, self._scale)
        for it in reached:
            # The micro-batch belongs to its epoch before it belongs to the window.
            self._place(self._open)
            it.add(self._open)
            if self.step < EARLY and not it.has_hooks(self.ranks.hooks()):
                it.after_backward = scalers.unscaled(self._tensors.total_norm(it.gradients()), self._scale)

    def _place(self, micro_batch: MicroBatch) -> None:
        """Decides epoch and index of a micro-batch, and writes the edges of epochs that come before it."""
        if micro_batch.place is not None:
            return
        draw = self._draw
        loader = None if draw is None else draw.loader.number
        now = self._epochs.get(loader)
        if now is None or (draw is not None and now.drawn != draw.epoch):
            self._end_epoch(loader)
            # The first epoch that trains is epoch 0, even if the script has looked at a batch before.
            now = self._epochs[loader] = Epoch(0 if now is None else now.number + 1, draw)
            order = None if draw is None else draw.loader.facts.get("order")
            self._write("epoch", epoch=now.number, edge="begin", loader=loader, order=order)
            for it in self.states.alive():
                it.epoch_begins()
        if draw is None:
            index, self._index = self._index, self._index + 1
        else:
            index = draw.index
        micro_batch.place = {"epoch": now.number, "index": index, **({} if loader is None else {"loader": loader})}

    def _end_epoch(self, loader: Optional[int]) -> None:
        epoch = self._epochs.get(loader)
        if epoch is not None and epoch.complete():
            self._write("epoch", epoch=epoch.number, edge="end", loader=loader)

    def settle(self) -> None:
        """Writes the open micro-batch: nothing more can happen to it."""
        it, self._open = self._open, None
        if it is None:
            return
        self._place(it)
        values = [(self._tensors.number(value) / scale if scale else float("nan")) for value, scale in it.roots]
        backward = sum(values) if values else None
        it.finite = backward is None or math.isfinite(backward)
        self._write(
            "micro_batch",
            **it.place,
            **it.seen,
            backward=None if backward is None else number(backward),
            optimizers=it.reached,
            losses=[_loss(self._tensors.number(value), weight) for value, weight in it.losses],
        )

    def _seen(self) -> Dict[str, Any]:
        """What the forwards before a backward pass show of the micro-batch."""
        inputs, self._inputs = self._inputs, None
        modes, self._modes = list(self._modes.values()), {}
        acting = {mode: sum(it[mode] for it in modes) for mode in ("training", "evaluation")} if modes else None
        if acting is not None:
            acting["model"] = any(it["model"] for it in modes)
            acting["drifting"] = sum(it.get("drifting", 0) for it in modes) or None
            acting = {name: value for name, value in acting.items() if value is not None}
        if self._draw is not None:
            samples, sizes, content = self._draw.samples, self._draw.sizes, self._draw.content
        elif inputs is not None:
            args, named = inputs
            samples, sizes = batches.content_ids(inputs, self._tensors), batches.describe(named or args, self._tensors)
            content = samples
        else:
            samples, sizes, content = None, {}, None
        seen = {"samples": samples, **sizes, "modes": acting}
        if self.ranks.tells(self.step):
            # Ranks may have the same indices of different datasets, or slices of one batch.
            seen["content"], self._content = self._content, None
        # Where runs are compared, one may know its samples by their indices and the other, which skips some, only by what is in them.
        return seen if self.compared is None else {**seen, "rng": self.compared.random, "content": content}

    # Steps.

    def step_begins(self, optimizer: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """An optimizer's `step` is called."""
        if optimizer in self._stepping:
            self._stepping.clear()
        self._stepping.append(optimizer)
        self.optimizer_made(optimizer).called = True
        if len(self._stepping) == 1:
            self.settle()
            if not has_closure(args, named):
                self._measure(optimizer)

    def step_ends(self, optimizer: Any, args: Sequence[Any], named: Mapping[str, Any]) -> None:
        """An optimizer's `step` is done."""
        outer = self._stepping[:1] == [optimizer]
        if optimizer in self._stepping:
            self._stepping.remove(optimizer)
        if not outer:
            return
        closure = has_closure(args, named)
        if closure:
            self.settle()
            self._measure(optimizer)
        self._update(optimizer, applied=not self._overflowed, closure=closure)

    def skipped(self, optimizer: Any) -> None:
        """The GradScaler found a gradient that is not finite and did not call the optimizer."""
        self.settle()
        self.optimizer_made(optimizer).called = True
        self._measure(optimizer)
        self._update(optimizer, applied=False, closure=False)

    def _measure(self, optimizer: Any) -> None:
        """Reads the gradients before the step: a fused optimizer unscales them in place."""
        window = self._window(optimizer)
        window.settle()
        self.guard(self.ranks.step_begins, window, self.step)
        scale = scalers.left_scaled(optimizer, self._tensors)
        # The norm takes a pass over all gradients. Where a clip call has told it, the norm after clipping is a sample.
        told = any(it["whole"] and not it["used"] for it in window.clips)
        sampled = self.step < EARLY or (self.step + 1) % self._digest_every == 0
        self._clipped = None
        if sampled or not told:
            self._clipped = scalers.unscaled(self._tensors.total_norm(window.gradients()), scale)
        self._before = window.norm_before(self._clipped)
        self._overflowed = scalers.overflowed(optimizer, self._tensors)

    def _update(self, optimizer: Any, *, applied: bool, closure: bool) -> None:
        window = self._window(optimizer)
        self._start()
        self.step += 1
        # Ranks are compared from their first update on, and a short run at each of its updates.
        due = self.step % self._digest_every == 0 or self.ranks.tells(self.step - 1) or (self.ranks.tells(0) and self.step <= EARLY_OF_RANKS)
        checksums = self.states.checksums() if due else None
        held = len(window.members)
        tensors = self.guard(self.ranks.told, window, window.members, self.states.named(), self.step - 1)
        draw = self._draw
        since = window.take(
            epoch_over=draw is not None and draw.loader.over(),
            closure=closure,
            schedules=self.schedules.on(optimizer),
            declared=self._rates.of(optimizer, applied),
            before=self._before,
            averaged=self.averages.take(),
        )
        groups = [group for group in optimizer.param_groups if group["params"]]
        decay = [number(float(it["weight_decay"])) for it in groups if "weight_decay" in it]
        self._write(
            "update",
            step=self.step,
            optimizer=window.number,
            micro_batches=held or None,
            lr=[number(float(it["lr"])) for it in groups if "lr" in it],
            decay=decay or None,
            grad_norm=None if self._before is None else number(self._before),
            clipped_norm=None if self._clipped is None else number(self._clipped),
            applied=applied,
            digest=self.states.digest(checksums),
            since=since,
            tensors=tensors,
        )
        self._around.updated()
        self._memory.write("update", self.step, count=checksums is not None or self.step <= self._counts)
        if self.compared is not None:
            self.compared.update(applied)
        elif applied and checksums is not None and self.step >= self._next_state:
            # Twice the step each time: a state has an entry per tensor, and a long run must not drown in them.
            self._next_state = 2 * self.step
            self._state("update", checksums)

    def _left(self) -> None:
        """Writes the state that an update left, where runs are compared."""
        if self.compared is not None and self.compared.left():
            self._state("update")

    # What else a script does.

    def clipped(self, parameters: List[Any], limit: float, norm: Optional[Any], by_value: bool, norm_type: float) -> None:
        """The script has called `clip_grad_norm_` or `clip_grad_value_`."""
        for it in self.states.alive():
            it.settle()
            scaled = self._scale != 1.0 and not it.unscaled
            it.clipped(limit, norm, parameters, by_value=by_value, scaled=scaled, norm_type=norm_type)

    def unscaled(self, optimizer: Any) -> None:
        """The script has called the GradScaler's `unscale_`."""
        window = self._window(optimizer)
        if window is not None:
            window.unscaled = True

    def seeded(self, seed: int) -> None:
        """The script has seeded the global random generator."""
        for it in self.states.alive():
            it.seeded(seed)

    def restored(self) -> None:
        """The script has put the global random state back: what it seeded has no effect on training."""
        for it in self.states.alive():
            it.restored()

    def loaded(self) -> None:
        """The script has loaded a state dict."""
        self._around.forget()
        if self.compared is not None:
            self.compared.loaded(is_open=self._writer is not None)
        for it in self.states.alive():
            it.loaded = True

    def saved(self, saved: Any, to: Any) -> None:
        """The script has saved something in a file, or in an open one."""
        if self.compared is None:
            if isinstance(to, (str, os.PathLike)):
                self._checkpoint("saved", os.fspath(to), None)
        elif self.compared.is_saving(self.step):
            self.settle()
            self._left()
            self._checkpoint("saved", *self.compared.saves.saved(saved, to, self.step))

    def moved(self, source: Any, to: Any, keeps: bool) -> None:
        """The script has given a file or a folder another name, or `keeps` it under the old one, too."""
        for told in self.compared.moved(source, to, keeps, self.step):
            self._checkpoint(*told)

    def removed(self, path: Any) -> None:
        """The script has removed a file or a folder."""
        for told in self.compared.removed(path):
            self._checkpoint(*told)

    def _checkpoint(self, edge: str, path: str, whole: Optional[bool]) -> None:
        if self._writer is not None:
            self.settle()
            place = {"epoch": 0, "micro_batches": 0} if self._draw is None else {"epoch": self._draw.epoch, "micro_batches": self._draw.index + 1}
            self._write("checkpoint", edge=edge, step=self.step, **place, path=path, whole=whole)

    def _evaluated(self, inputs: Any) -> None:
        if self._evaluation is None:
            return
        draw = self.draws.match(inputs, training=False, first=True)
        if draw is not None:
            self._evaluation["apart"] = draw.loader.number is None
        # Here and not when the evaluation is over: averaged weights are swapped out before training goes on.
        self._evaluation["digest_after"] = self.states.fingerprint()

    def end_evaluation(self) -> None:
        """No more forwards belong to the evaluation, if there is one."""
        it, self._evaluation = self._evaluation, None
        if it is None:
            return
        apart, losses = it.pop("apart", False), self.losses.take_evaluated()
        total = {"losses": [_loss(sum(map(self._tensors.number, losses)), len(losses))]} if losses else {}
        self._write("evaluation", step=self.step, apart=apart or None, **total, **it)
        self._memory.write("evaluation", self.step)
        self._around.evaluated()
        for window in self.states.alive():
            window.evaluated()

    # The trace.

    def _start(self) -> None:
        """Opens the trace, with the first line and the state before training; and takes note of new parameters."""
        held = self.states.held()
        if self.models.hold(held) or not self.states.known:
            self.states.look_up()
        if self._writer is not None:
            self.ranks.follow(held)
            return
        self._writer = Writer(self._opens())
        self._memory = Memory(self._writer, self._tensors, max(ALWAYS, self._counts))
        loader = None if self._draw is None else self._draw.loader
        read, whose = frameworks.read()
        whose = {name: kind for name, kind in whose.items() if name not in self._declared}
        told = {**read, **self._declared}
        facts = recorded_facts(told, loader, self.states.groups, self.states.named().values(), self._tensors)
        facts["read"], facts["optimizers"] = whose, [it.kind for it in self._windows]
        facts.update(self.guard(self.ranks.facts, self.states.training()) or {})
        if self.ranks.tells(0):
            self._next_state = 1
        self.ranks.follow(held)
        if self.compared is not None and self.compared.cut.after is not None:
            facts["cut_after"] = self.compared.cut.after
        if self._rates.words is not None:
            facts["rates"] = self._rates.words
        self._write(
            "run",
            schema=SCHEMA,
            trainer=self._tensors.version(),
            device=str(getattr(held[0], "device", "cpu")) if held else "cpu",
            scenario="recorded",
            run="recorded",
            recorded=facts,
            contract=self._contract,
        )
        if self.compared is None:
            self.guard(self.averages.look_up, self.states.training())
            self._write("state", **self._fields("start"))
            return
        self._write("state", **(self.compared.start or self._fields("start")))
        for path in self.compared.saves.loads:
            self._checkpoint("loaded", path, None)

    def close(self, error: Optional[BaseException] = None) -> None:
        """Writes what is still open, and the end."""
        if not self.here():
            return
        if self._writer is not None:
            self.guard(self._finish, error)
            self.guard(self._end, error)
        self.draws.release()
        self.ranks.release()
        self._closed = True

    def _finish(self, error: Optional[BaseException]) -> None:
        self.end_evaluation()
        self.settle()
        self._left()
        for loader in self._epochs:
            self._end_epoch(loader)
        # At the end of a process the script's optimizer may be gone: a state would say that nothing trains.
        if error is None and self.states.alive():
            self._state("end")

    def _end(self, error: Optional[BaseException]) -> None:
        if error is None:
            reason: Dict[str, Any] = {"reason": "done"}
        elif isinstance(error, KeyboardInterrupt):
            reason = {"reason": "stopped", "message": "interrupted"}
        else:
            reason = failure(error)
        idle = [it.number for it in self._windows if it.idle(self._windows)]
        stuck = [it.number for it in self._windows if it.stuck()]
        self._write(
            "end",
            **reason,
            trouble=self.guard.trouble() or None,
            idle=idle or None,
            stuck=stuck or None,
            silent=None if self.models.ran is None else self.states.silent(self.models.ran),
            recomputed=self.recomputed.told(),
            unmoved=self.guard(self.averages.unmoved, self.step),
        )
        self._writer.close()

    def _state(self, at: str, checksums: Optional[Mapping[str, str]] = None) -> None:
        self._write("state", **self._fields(at, checksums))

    def _fields(self, at: str, checksums: Optional[Mapping[str, str]] = None) -> Dict[str, Any]:
        fields = self.states.fields(at, self.step, checksums)
        return fields if self.compared is None else {**fields, **self.compared.beside()}

    def _write(self, event: str, **fields: Any) -> None:
        if self._writer is not None:
            self._writer.event(event, **fields)


class Epoch:
    """An epoch that trains."""

    def __init__(self, number: int, draw: Optional[Draw]) -> None:
        self.number = number
        self.drawn = None if draw is None else draw.epoch
        self._loader = None if draw is None else draw.loader

    def complete(self) -> bool:
        """Whether the loader came to its end, and every batch was trained on."""
        if self._loader is None:
            return False
        self._loader.settle()
        return self.drawn in self._loader.complete


def _loss(value: float, weight: float) -> Dict[str, Any]:
    return {"name": "loss", "sum": number(value), "weight": weight}
