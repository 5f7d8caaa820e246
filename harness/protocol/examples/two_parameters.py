#!/usr/bin/env python3
"""A whole trainer in plain Python that speaks traintrue's protocol; nothing but the standard library.

    python3 two_parameters.py describe              one line: what it can do, and its conventions
    python3 two_parameters.py run < plan.json       a plan in, a trace out

The model has two parameters: it guesses the next token as scale * token + shift, tokens in units of the vocabulary, and
its loss is the squared error. That is too small to learn to speak, and has all that a training loop gets wrong: windows,
clipping, AdamW, a schedule, dropout, evaluation, checkpoints.
"""

import hashlib
import json
import math
import os
import random
import sys

CONTRACT = {
    "tail": "flush",
    "normaliser": "tokens",
    "gradients": "mean",
    "first_lr": "nonzero",
    "rows_per_sample": 1,
    "deterministic": True,
}
DESCRIPTION = {
    "schema": 1,
    "trainer": "two-parameters 1.0",
    "capabilities": ["resume", "evaluation"],
    "contract": CONTRACT,
}
NAMES = ["scale", "shift"]


def digest(value):
    """Equal values have equal digests: the text of a float in Python is exact."""
    return "sha256:" + hashlib.sha256(repr(value).encode()).hexdigest()[:16]


class Trainer:
    """One run of one plan."""

    def __init__(self, plan):
        self.plan = plan
        self.rng = random.Random(plan["seed"])
        self.parameters = [self.rng.uniform(-1.0, 1.0) for _ in NAMES]
        self.moments = [[0.0, 0.0] for _ in NAMES]
        self.step = 0
        self.cursor = {"epoch": 0, "micro_batches": 0}
        self.open_window()

    def open_window(self):
        self.window = {"micro_batches": 0, "targets": 0, "gradients": [0.0 for _ in NAMES]}

    # What it says.

    def say(self, event, **fields):
        print(json.dumps({"event": event, **fields}), flush=True)

    def say_run(self):
        plan = self.plan
        opening = {"schema": 1, "trainer": DESCRIPTION["trainer"], "device": "cpu", "contract": CONTRACT}
        self.say("run", scenario=plan["scenario"], run=plan["run"], plan=plan, **opening)

    def say_state(self, at, gradients=None):
        tensors = [
            {
                "name": name,
                "group": "base",
                "shape": [1],
                "dtype": "f64",
                "trainable": True,
                "optimized": True,
                "digest": digest(self.parameters[i]),
                "moments": digest(self.moments[i]),
                "grad_norm": abs(gradients[i]) if gradients else None,
                "sketch": [self.parameters[i]],
            }
            for i, name in enumerate(NAMES)
        ]
        place = {"cursor": self.cursor, "window": self.window["micro_batches"], "window_digest": digest(self.window)}
        self.say("state", at=at, step=self.step, tensors=tensors, rng=self.rng_digest(), schedule_step=self.step, **place)

    def say_checkpoint(self, edge, folder):
        self.say("checkpoint", edge=edge, step=self.step, path=folder, **self.cursor)

    def rng_digest(self):
        return digest(self.rng.getstate())

    # Data.

    def cut(self, sample):
        """A long sample keeps its last token."""
        longest = self.plan["data"]["max_length"]
        return sample if len(sample) <= longest else sample[: longest - 1] + sample[-1:]

    def order(self, epoch):
        ids = list(range(len(self.plan["data"]["samples"])))
        if self.plan["data"]["shuffle"]:
            random.Random(f"{self.plan['seed']} {epoch}").shuffle(ids)
        return ids

    def micro_batches(self):
        """Micro-batches in an epoch."""
        data = self.plan["data"]
        whole, rest = divmod(len(data["samples"]), data["batch"])
        return whole + (1 if rest and not data["drop_last"] else 0)

    def width(self, rows):
        padding = self.plan["data"]["padding"]
        longest = max([1, *map(len, rows)])
        width = longest if padding["policy"] == "longest" else self.plan["data"]["max_length"]
        return -(-width // padding["multiple_of"]) * padding["multiple_of"]

    # Forward and backward.

    def losses(self, rows, dropout):
        """The summed loss over all targets, its gradients, and the number of targets."""
        scale, shift = self.parameters
        vocabulary = self.plan["data"]["tokens"]["vocabulary"]
        total, gradients, targets = 0.0, [0.0, 0.0], 0
        for row in rows:
            for token, following in zip(row, row[1:]):
                x = token / vocabulary
                if dropout:
                    x = 0.0 if self.rng.random() < dropout else x / (1.0 - dropout)
                error = scale * x + shift - following / vocabulary
                total += error * error
                gradients[0] += 2.0 * error * x
                gradients[1] += 2.0 * error
                targets += 1
        return total, gradients, targets

    def micro_batch(self, ids):
        rows = [self.cut(self.plan["data"]["samples"][i]) for i in ids]
        total, gradients, targets = self.losses(rows, self.plan["train"]["dropout"])
        window = self.window
        window["micro_batches"] += 1
        window["targets"] += targets
        window["gradients"] = [old + new for old, new in zip(window["gradients"], gradients)]
        self.say(
            "micro_batch",
            epoch=self.cursor["epoch"],
            index=self.cursor["micro_batches"],
            samples=ids,
            rows=len(rows),
            width=self.width(rows),
            tokens=sum(map(len, rows)),
            targets=targets,
            losses=[{"name": "lm", "sum": total, "weight": targets}],
        )
        self.cursor = {**self.cursor, "micro_batches": self.cursor["micro_batches"] + 1}

    # Updates.

    def window_closes(self):
        """When it is full, and at an epoch's end: tail flush."""
        full = self.window["micro_batches"] == self.plan["train"]["accumulation"]
        return full or self.cursor["micro_batches"] == self.micro_batches()

    def rate(self, step):
        schedule = self.plan["train"]["schedule"]
        windows = -(-self.micro_batches() // self.plan["train"]["accumulation"])
        total = schedule["updates"] or self.plan["data"]["epochs"] * windows
        warmup = schedule["warmup"]
        if step < warmup:
            return self.plan["train"]["optimizer"]["lr"] * step / warmup
        progress = min(1.0, (step - warmup) / max(1, total - warmup))
        fall = {"constant": 1.0, "linear": 1.0 - progress, "cosine": 0.5 * (1.0 + math.cos(math.pi * progress))}
        return self.plan["train"]["optimizer"]["lr"] * fall[schedule["name"]]

    def update(self):
        """AdamW on the mean over the window's targets; its decay is for matrices, and there is none."""
        window, train = self.window, self.plan["train"]
        gradients = [gradient / max(1, window["targets"]) for gradient in window["gradients"]]
        norm = math.hypot(*gradients)
        clip = min(1.0, train["clip"] / norm) if train["clip"] and norm else 1.0
        self.step += 1
        lr, eps = self.rate(self.step), train["optimizer"]["eps"]
        first, second = train["optimizer"]["betas"]
        for i, gradient in enumerate(gradient * clip for gradient in gradients):
            m = first * self.moments[i][0] + (1.0 - first) * gradient
            v = second * self.moments[i][1] + (1.0 - second) * gradient * gradient
            self.moments[i] = [m, v]
            m, v = m / (1.0 - first**self.step), v / (1.0 - second**self.step)
            self.parameters[i] -= lr * m / (math.sqrt(v) + eps)
        self.say(
            "update",
            step=self.step,
            micro_batches=window["micro_batches"],
            targets=window["targets"],
            lr=[lr],
            grad_norm=norm,
            clipped_norm=norm * clip,
            applied=True,
            digest=digest(self.parameters),
        )
        self.open_window()
        if self.is_due("state_every"):
            self.say_state("update", gradients)

    def is_due(self, every):
        return self.plan[every] is not None and self.step % self.plan[every] == 0

    def evaluate(self):
        samples, size = self.plan["data"]["evaluation"], self.plan["data"]["batch"]
        before = {"digest_before": digest(self.parameters), "rng_before": self.rng_digest()}
        losses = []
        for start in range(0, len(samples), size):
            total, _, targets = self.losses([self.cut(row) for row in samples[start : start + size]], dropout=0.0)
            losses.append({"name": "lm", "sum": total, "weight": targets})
        metric = sum(loss["sum"] for loss in losses) / max(1, sum(loss["weight"] for loss in losses))
        after = {"digest_after": digest(self.parameters), "rng_after": self.rng_digest(), "dropped": 0}
        ids = list(range(len(samples)))
        self.say("evaluation", step=self.step, samples=ids, losses=losses, metric=metric, **before, **after)

    # Checkpoints.

    def state(self):
        kept = ["parameters", "moments", "step", "cursor", "window"]
        return {**{name: getattr(self, name) for name in kept}, "rng": self.rng.getstate()}

    def restore(self, state):
        version, internal, gauss = state.pop("rng")
        self.rng.setstate((version, tuple(internal), gauss))
        for name, value in state.items():
            setattr(self, name, value)

    def save(self, folder):
        """The new file takes the old one's place at once: a crash leaves one of the two."""
        os.makedirs(folder, exist_ok=True)
        path = os.path.join(folder, "checkpoint.json")
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.state(), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(path + ".new", path)
        self.say_checkpoint("saved", folder)

    def load(self, folder):
        with open(os.path.join(folder, "checkpoint.json"), encoding="utf-8") as file:
            self.restore(json.load(file))
        self.say_checkpoint("loaded", folder)
        self.say_state("loaded")

    # The loop.

    def run(self):
        self.say_run()
        if self.plan["start"]:
            self.load(self.plan["start"]["from"])
        else:
            self.say_state("start")
        reason = "stopped" if self.epochs() else "done"
        self.say_state("end")
        if reason == "stopped" and self.plan["stop"]["save"]:
            self.save(self.plan["stop"]["save"])
        self.say("end", reason=reason)

    def epochs(self):
        """Trains to the end, or to the stop; true where it stopped."""
        data, stop = self.plan["data"], self.plan["stop"]
        count, order = self.micro_batches(), None
        while True:
            if self.cursor["micro_batches"] == count:
                self.cursor, order = {"epoch": self.cursor["epoch"] + 1, "micro_batches": 0}, None
            epoch, done = self.cursor["epoch"], self.cursor["micro_batches"]
            if stop and (epoch, done) == divmod(stop["epoch"] * count + stop["micro_batches"], count):
                return True
            if epoch == data["epochs"]:
                return False
            if done == 0:
                self.say("epoch", epoch=epoch, edge="begin")
            order = order or self.order(epoch)
            self.micro_batch(order[done * data["batch"] : (done + 1) * data["batch"]])
            if self.window_closes():
                self.update()
                if self.is_due("evaluate_every"):
                    self.evaluate()
                if self.is_due("save_every"):
                    self.save(self.plan["save_to"])
            if self.cursor["micro_batches"] == count:
                self.say("epoch", epoch=epoch, edge="end")


def main(trainer=Trainer):
    verb = sys.argv[-1]
    if verb == "describe":
        print(json.dumps(DESCRIPTION))
    elif verb == "run":
        trainer(json.load(sys.stdin)).run()
    else:
        sys.exit(f"{sys.argv[0]}: {verb!r}: expected describe or run")


if __name__ == "__main__":
    main()
