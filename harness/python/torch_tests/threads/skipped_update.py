"""A broken row makes gradients NaN: its update is skipped by the norm, and the gradients are cleared (espnet#3283, habitat-lab#2226)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
ACCUMULATION = 2
inputs = torch.randn(40, 8)
inputs[17, 3] = float("nan")
loader = DataLoader(TensorDataset(inputs, torch.randn(40, 1)), batch_size=2)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
skipped = 0
for epoch in range(3):
    for index, (batch, targets) in enumerate(loader):
        loss = nn.functional.mse_loss(model(batch), targets) / ACCUMULATION
        loss.backward()
        if (index + 1) % ACCUMULATION != 0:
            continue
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if not torch.isfinite(norm):
            skipped += 1
            optimizer.zero_grad()
            continue
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch}: {skipped} skipped")
