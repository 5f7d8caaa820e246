#!/usr/bin/env python3
"""The trainer of harness/protocol/examples/two_parameters.py with parts of it replaced by wrong ones, by name:

    python3 broken_trainer.py [BUG …] describe|run

The right trainer has no switch in it: a bug is a class that is laid over it.
"""

import os
import random
import sys
import time

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../harness/protocol/examples")
sys.dont_write_bytecode = True
sys.path.insert(0, EXAMPLES)

import two_parameters  # noqa: E402

UNSEEDED = random.SystemRandom()


class BoundaryFromBatchIndex:
    """The window closes by the index in the epoch, and what it held before a stop is not saved."""

    def window_closes(self):
        done = self.cursor["micro_batches"]
        return done % self.plan["train"]["accumulation"] == 0 or done == self.micro_batches()

    def restore(self, state):
        super().restore(state)
        self.open_window()


class MomentsNotRestored:
    def restore(self, state):
        fresh = self.moments
        super().restore(state)
        self.moments = fresh


class EvaluationDraws:
    """Dropout stays on while it evaluates, and draws from the stream of the training."""

    def losses(self, rows, dropout):
        return super().losses(rows, self.plan["train"]["dropout"])


class Noise:
    """Sums in another order each time, as on a GPU: off by about a rounding."""

    def losses(self, rows, dropout):
        total, gradients, targets = super().losses(rows, dropout)
        off = lambda value: value * (1.0 + UNSEEDED.uniform(-1e-12, 1e-12))
        return off(total), [off(gradient) for gradient in gradients], targets


class NotDeterministic:
    """Says so."""


class LiesAboutItsPlan:
    """Trains half as many micro-batches a window, and writes the plan that fits."""

    def __init__(self, plan):
        plan["train"]["accumulation"] //= 2
        super().__init__(plan)


class Says:
    """What a trainer may do after its third micro-batch in place of going on."""

    def micro_batch(self, ids):
        super().micro_batch(ids)
        if self.cursor == {"epoch": 0, "micro_batches": 3}:
            self.instead()


class Crash(Says):
    def instead(self):
        print("gradients exploded, giving up", file=sys.stderr)
        sys.exit(9)


class Hang(Says):
    def instead(self):
        print("waiting for the other ranks", file=sys.stderr, flush=True)
        time.sleep(3600)


class HalfALine(Says):
    def instead(self):
        sys.stdout.write('{"event": "upda')
        sys.stdout.flush()
        os._exit(0)


class Garbage(Says):
    def instead(self):
        print("epoch 1, loss 2.3")


class Endless(Says):
    def instead(self):
        while True:
            self.say("memory", at="update", step=0, lanes={"rss_bytes": 1})


BUGS = {
    "boundary-from-batch-index": BoundaryFromBatchIndex,
    "moments-not-restored": MomentsNotRestored,
    "evaluation-draws": EvaluationDraws,
    "noise": Noise,
    "not-deterministic": NotDeterministic,
    "lies-about-its-plan": LiesAboutItsPlan,
    "crash": Crash,
    "hang": Hang,
    "half-a-line": HalfALine,
    "garbage": Garbage,
    "endless": Endless,
}


def main():
    bugs = sys.argv[1:-1]
    two_parameters.CONTRACT["deterministic"] = "not-deterministic" not in bugs
    if "no-description" in bugs and sys.argv[-1] == "describe":
        raise ImportError("No module named 'torch'")
    parts = tuple(BUGS[bug] for bug in bugs if bug in BUGS)
    two_parameters.main(type("Broken", (*parts, two_parameters.Trainer), {}))


if __name__ == "__main__":
    main()
