"""A training loop without torch that writes its own trace, for ci/wheel: a line is fitted in windows of 3 micro-batches.

    traintrue record -- python loop.py                    # held
    traintrue record -- python loop.py --keep-gradients   # broken: the gradients are never cleared
"""

import os
import random
import sys

from traintrue.trace import SCHEMA, Writer, loss

SAMPLES, BATCH, WINDOW, EPOCHS, RATE = 18, 2, 3, 3, 0.1


def train(trace, keeps_gradients):
    slope, gradient, held, step = 0.0, 0.0, 0, 0
    order = random.Random(3)
    for epoch in range(EPOCHS):
        trace.event("epoch", epoch=epoch, edge="begin", loader=0)
        samples = order.sample(range(SAMPLES), SAMPLES)
        for index in range(SAMPLES // BATCH):
            batch = samples[index * BATCH : (index + 1) * BATCH]
            errors = [(slope - 2.0) * sample / SAMPLES for sample in batch]
            mean = sum(error * error for error in errors) / BATCH
            gradient += sum(2 * error * sample / SAMPLES for error, sample in zip(errors, batch)) / BATCH / WINDOW
            held += 1
            place = {"epoch": epoch, "index": index, "loader": 0, "samples": batch}
            trace.event("micro_batch", **place, losses=[loss("loss", mean, 1)], backward=mean / WINDOW, optimizers=[0])
            if (index + 1) % WINDOW:
                continue
            slope, step = slope - RATE * gradient, step + 1
            norm, ends = abs(gradient), index + 1 == SAMPLES // BATCH
            since = {"micro_batches": WINDOW, "rescaled": 1.0, "epoch_ended": ends}
            trace.event("update", step=step, micro_batches=held, lr=[RATE], grad_norm=norm, clipped_norm=norm, since=since)
            if not keeps_gradients:
                gradient, held = 0.0, 0
        trace.event("epoch", epoch=epoch, edge="end", loader=0)


def main():
    folder = os.environ["TRAINTRUE_RECORD"]
    with open(os.path.join(folder, "run.jsonl"), "w", encoding="utf-8") as file:
        trace = Writer(file)
        facts = {"samples": SAMPLES, "batch": BATCH, "lr": RATE, "order": "shuffled", "optimizers": ["GradientDescent"]}
        contract = {"tail": "flush", "normaliser": "micro-batches", "gradients": "mean", "first_lr": "zero"}
        contract.update(rows_per_sample=1, deterministic=True)
        run = {"scenario": "recorded", "run": "recorded", "recorded": facts, "contract": contract}
        trace.event("run", schema=SCHEMA, trainer="a line in plain Python", device="cpu", **run)
        train(trace, "--keep-gradients" in sys.argv)
        trace.event("end", reason="done")


main()
