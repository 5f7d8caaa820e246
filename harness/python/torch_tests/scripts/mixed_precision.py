"""A tagger in mixed precision: autocast, a GradScaler, clipping after unscaling, windows that are smaller at an epoch's end.

Before training it runs a model without values, as for counting operations. Its checkpoint holds the loader.
"""

import io
import sys

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
WINDOW = 4
samples = torch.randn(110, 12)
tags = samples[:, :3].argmax(1)
loader = DataLoader(TensorDataset(samples, tags), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(12, 32), nn.GELU(), nn.Dropout(0.2), nn.Linear(32, 3))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
with torch.device("meta"):
    functional.cross_entropy(nn.Linear(12, 3)(torch.randn(8, 12)), torch.zeros(8, dtype=torch.long)).backward()


def windows(batches):
    """The micro-batches of one update each."""
    held = []
    for batch in batches:
        held.append(batch)
        if len(held) == WINDOW:
            yield held
            held = []
    if held:
        yield held


for epoch in range(3):
    model.train()
    for window in windows(loader):
        for inputs, targets in window:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = functional.cross_entropy(model(inputs), targets)
            loss /= len(window)
            scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    model.eval()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        right = (model(samples).argmax(1) == tags).float().mean()
    torch.save({"model": model.state_dict(), "loader": loader}, io.BytesIO())
    print(f"epoch {epoch}: {right:.2f}")
