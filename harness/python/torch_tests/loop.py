"""A plain PyTorch loop that goes wrong in one place: `python -m torch_tests.loop HOW TRACE`."""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import traintrue

EPOCHS, ACCUMULATION, BATCH, SAMPLES, WARMUP, CLIP = 12, 4, 8, 103, 10, 0.05


def data(how: str) -> TensorDataset:
    """Inputs and classes; one input is NaN if the loop is the `nan` one."""
    inputs, classes = torch.randn(SAMPLES, 16), torch.randint(0, 4, (SAMPLES,))
    if how == "nan":
        inputs[50, 3] = float("nan")
    return TensorDataset(inputs, classes)


def main(how: str, path: str) -> None:
    """Trains and records."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    workers = 2 if how == "workers" else 0
    loader = DataLoader(data(how), batch_size=BATCH, shuffle=True, num_workers=workers)
    model = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 4))
    held = list(model.parameters())
    if how == "frozen":
        model[0].requires_grad_(False)
    optimizer = torch.optim.AdamW(held[:-1] if how == "not-in-the-optimizer" else held, lr=1e-2)
    updates = EPOCHS * -(-len(loader) // ACCUMULATION)

    def multiplier(step: int) -> float:
        return step / WARMUP if step < WARMUP else max(0.0, 1 - (step - WARMUP) / (updates - WARMUP))

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, multiplier)
    criterion, held_out, kept = nn.CrossEntropyLoss(), torch.randn(32, 16), []
    # Every loop has a scaler; only the `overflows` loop enables it.
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0, enabled=how == "overflows")
    declared = {"epochs": EPOCHS, "accumulation": ACCUMULATION, "clip": CLIP, "schedule": "linear", "warmup": WARMUP}
    with traintrue.record(path, model, optimizer, loader, **declared):
        for epoch in range(EPOCHS):
            model.train()
            for index, (inputs, classes) in enumerate(loader):
                loss = criterion(model(inputs), classes)
                overflows = how == "overflows" and (epoch, index) == (2, 5)
                scaler.scale(loss / ACCUMULATION * (1e38 if overflows else 1.0)).backward()
                if how == "kept":
                    kept.append(torch.zeros(100_000) + loss.detach())
                last = index + 1 == len(loader)
                if (index + 1) % ACCUMULATION == 0 or (last and how != "tail-dropped"):
                    scaler.unscale_(optimizer)
                    if how != "not-clipped":
                        torch.nn.utils.clip_grad_norm_(model.parameters(), CLIP)
                    scaler.step(optimizer)
                    scaler.update()
                    if how != "schedule-a-micro-batch":
                        scheduler.step()
                    if how != "never-cleared":
                        optimizer.zero_grad()
                if how == "schedule-a-micro-batch":
                    scheduler.step()
                if how == "cleared-a-micro-batch":
                    optimizer.zero_grad()
            if how == "tail-dropped":
                optimizer.zero_grad()
            if how != "evaluated-in-training-mode":
                model.eval()
            with torch.no_grad():
                criterion(model(held_out), torch.zeros(len(held_out), dtype=torch.long))


if __name__ == "__main__":
    main(*sys.argv[1:])
