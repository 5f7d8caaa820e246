"""Writes the logs of this folder with the libraries that people log with, on a model of 12 numbers.

    python generate.py FOLDER

Needs torch, transformers, lightning, tensorboard, mlflow-skinny, wandb and llamafactory. Runs offline. README.md has the
versions and what each log must be found to be.
"""

import csv
import json
import os
import shutil
import sys
from pathlib import Path

os.environ.update(WANDB_MODE="offline", WANDB_SILENT="true", WANDB_DISABLE_CODE="true", WANDB_CONSOLE="off",
                  WANDB_DISABLE_GIT="true", WANDB__DISABLE_META="true", WANDB_X_DISABLE_META="true", WANDB_X_DISABLE_STATS="true",
                  MLFLOW_ALLOW_FILE_STORE="true")

import torch

PEAK, WARMUP, UPDATES = 1e-3, 4, 24
WANDB = ["wandb", "wandb-steps-twice"]


def rate(taken, updates=UPDATES):
    """Warm-up over 4 updates, then a straight line to 0; `taken` updates are done."""
    return PEAK * (taken / WARMUP if taken < WARMUP else max(0.0, (updates - taken) / (updates - WARMUP)))


class Line(torch.nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = torch.nn.Linear(3, 4)

    def forward(self, x, labels=None):
        return {"loss": torch.nn.functional.mse_loss(self.layer(x), labels)}


class Points(torch.utils.data.Dataset):
    def __len__(self):
        return 64

    def __getitem__(self, at):
        generator = torch.Generator().manual_seed(at)
        return {"x": torch.randn(3, generator=generator), "labels": torch.randn(4, generator=generator)}


def transformers_runs(folder):
    from transformers import Trainer, TrainerCallback, TrainingArguments

    class StepsTwice(TrainerCallback):
        """The bug: the scheduler runs once more per update."""

        def on_step_end(self, args, state, control, lr_scheduler=None, **_):
            lr_scheduler.step()

    class CountsAnew(TrainerCallback):
        """The bug: the counter falls, and the data go on."""

        def on_step_end(self, args, state, control, **_):
            if state.global_step == 13 and not getattr(self, "done", False):
                self.done = True
                state.global_step = 5

    class Stops(TrainerCallback):
        def on_step_end(self, args, state, control, **_):
            control.should_training_stop = state.global_step == 14

    def train(name, report, callbacks=(), logs=None, resume=None, **more):
        out = folder / "out" / name
        os.environ["TENSORBOARD_LOGGING_DIR"] = str(folder / name)
        arguments = dict(
            output_dir=str(out), max_steps=UPDATES, per_device_train_batch_size=8, learning_rate=PEAK,
            lr_scheduler_type="linear", warmup_steps=WARMUP, logging_steps=2, report_to=[report], save_steps=10,
            eval_strategy="steps", eval_steps=8, run_name=name, use_cpu=True, disable_tqdm=True, seed=0)
        arguments.update(more)
        trainer = Trainer(Line(), TrainingArguments(**arguments), train_dataset=Points(), eval_dataset=Points(),
                          callbacks=[*callbacks])
        trainer.train(resume_from_checkpoint=resume and str(out / resume))

    train("tensorboard", "tensorboard")
    train("tensorboard-steps-twice", "tensorboard", [StepsTwice()])
    train("tensorboard-counts-anew", "tensorboard", [CountsAnew()], max_steps=18)
    train("tensorboard-resumed", "tensorboard", [Stops()])
    train("tensorboard-resumed", "tensorboard", resume="checkpoint-10")

    from llamafactory.train.callbacks import LogCallback
    for name, callbacks in [("llama-factory", []), ("llama-factory-steps-twice", [StepsTwice()])]:
        train(name, "none", [*callbacks, LogCallback()])
        (folder / name).mkdir(exist_ok=True)
        shutil.copy(folder / "out" / name / "trainer_log.jsonl", folder / name)

    import mlflow
    for name, callbacks in [("mlflow", []), ("mlflow-steps-twice", [StepsTwice()])]:
        mlflow.set_tracking_uri((folder / name).as_uri())
        os.environ["MLFLOW_TRACKING_URI"] = (folder / name).as_uri()
        train(name, "mlflow", callbacks)
        mlflow.end_run()

    import wandb
    # wandb reads WANDB_DIR once per process.
    os.environ["WANDB_DIR"] = str(folder / "out")
    for name, callbacks in zip(WANDB, [[], [StepsTwice()]]):
        train(name, "wandb", callbacks)
        wandb.finish()


def lightning_runs(folder):
    import lightning
    from lightning.pytorch.callbacks import DeviceStatsMonitor, LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    class Module(lightning.LightningModule):
        def __init__(self, twice=False, poisoned=None):
            super().__init__()
            self.model, self.twice, self.poisoned = Line(), twice, poisoned

        def training_step(self, batch, at):
            loss = self.model(**batch)["loss"]
            if self.poisoned is not None and self.global_step == self.poisoned:
                loss = loss * float("nan")
            self.log("train_loss", loss)
            return loss

        def validation_step(self, batch, at):
            self.log("val_loss", self.model(**batch)["loss"])

        def configure_optimizers(self):
            optimizer = torch.optim.AdamW(self.parameters(), lr=PEAK)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda taken: rate(taken) / PEAK)
            return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

        def on_train_batch_end(self, *_):
            if self.twice:
                self.lr_schedulers().step()

    def fit(name, logger, **bug):
        loader = torch.utils.data.DataLoader(Points(), batch_size=8)
        logger = logger(folder, name=name, version="")
        callbacks = [LearningRateMonitor("step")]
        lightning.Trainer(max_steps=UPDATES, accelerator="cpu", logger=logger, log_every_n_steps=2,
                          callbacks=callbacks, enable_progress_bar=False, enable_checkpointing=False,
                          enable_model_summary=False).fit(Module(**bug), loader, loader)

    fit("lightning", CSVLogger)
    fit("lightning-steps-twice", CSVLogger, twice=True)
    fit("lightning-nan", CSVLogger, poisoned=10)
    fit("lightning-tensorboard", TensorBoardLogger)
    fit("lightning-tensorboard-nan", TensorBoardLogger, poisoned=10)


def plain_runs(folder):
    """A loop of one's own, with three ways to log; the rate is logged after scheduler.step(), as many loops do."""

    def train(name, updates=UPDATES, leak=0):
        model, points = Line(), torch.utils.data.DataLoader(Points(), batch_size=8)
        optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda taken: rate(taken, updates) / PEAK)
        with open(folder / f"{name}.jsonl", "w") as lines, open(folder / f"{name}.csv", "w", newline="") as rows, \
                open(folder / f"{name}.txt", "w") as text:
            table = csv.writer(rows, lineterminator="\n")
            table.writerow(["epoch", "iteration", "train loss", "rate", "memory"])
            for at in range(UPDATES):
                if at % len(points) == 0:
                    batches = iter(points)
                    print(f"epoch {at // len(points)}", file=text)
                loss = model(**next(batches))["loss"]
                loss.backward()
                norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                scheduler.step()
                it = {"global_step": at, "train/loss": loss.item(), "lr": scheduler.get_last_lr()[0], "norm": norm.item()}
                lines.write(json.dumps(it) + "\n")
                table.writerow([at // len(points), at, it["train/loss"], it["lr"], 2**30 + leak * at])
                print(f"step {at}/{UPDATES} | loss {loss:.4f} | lr {it['lr']:.2e} | norm {norm:.2f}", file=text)

    train("plain")
    train("plain-broken", updates=32, leak=2**20)


def tidy(folder):
    """Keeps what is read, without this machine's name."""
    for name, run in zip(WANDB, sorted(folder.glob("out/wandb/*/*.wandb"), key=os.path.getmtime)):
        (folder / name).mkdir()
        shutil.move(run, folder / name / "run-1.wandb")
    shutil.rmtree(folder / "out")
    for at, events in enumerate(sorted(folder.glob("*/events.out.tfevents.*"))):
        events.rename(events.parent / f"events.out.tfevents.{1700000000 + at}.host")
    for run in list(folder.glob("mlflow*/*/*/metrics")):
        kept = folder / run.parts[-4]
        shutil.move(run, kept / "metrics")
        shutil.move(run.parent / "meta.yaml", kept)
        shutil.rmtree(run.parent.parent)
    for parameters in folder.glob("*/hparams.yaml"):
        parameters.unlink()


if __name__ == "__main__":
    folder = Path(sys.argv[1]).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    plain_runs(folder)
    lightning_runs(folder)
    transformers_runs(folder)
    tidy(folder)
