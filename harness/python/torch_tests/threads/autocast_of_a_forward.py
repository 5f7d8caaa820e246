"""A regression in mixed precision, its batches in one order (Flow-Factory#186)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train(epochs=6):
    for epoch in range(epochs):
        total = 0.0
        for batch, targets in loader:
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = nn.functional.mse_loss(model(batch).float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / len(loader):.3f}")


torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(40, 8)
loader = DataLoader(TensorDataset(inputs, inputs @ torch.randn(8, 1) + 2), batch_size=4)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
train()
