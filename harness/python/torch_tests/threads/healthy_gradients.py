"""A step is made where all gradients are finite, and they are cleared in any case (as in espnet#3283)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def healthy(model):
    return all(torch.isfinite(it.grad).all() for it in model.parameters() if it.grad is not None)


torch.manual_seed(0)
torch.set_num_threads(1)
inputs, scales = torch.randn(40, 8), torch.ones(40, 1)
scales[30] = 0.0
loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True), scales), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    made = 0
    for batch, targets, scale in loader:
        nn.functional.mse_loss(model(batch) / scale, targets / scale).backward()
        if healthy(model):
            optimizer.step()
            made += 1
        optimizer.zero_grad()
    print(f"epoch {epoch}: {made} updates")
