"""A classifier that clips the gradients of each window of four, and sets them to zeros (as in graphstorm#1366)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train_epoch(model, loader, optimizer, accumulation, limit):
    model.train()
    total = 0.0
    for index, (batch, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(batch), labels)
        (loss / accumulation).backward()
        total += loss.item()
        if (index + 1) % accumulation == 0:
            nn.utils.clip_grad_norm_(model.parameters(), limit)
            optimizer.step()
            optimizer.zero_grad(set_to_none=False)
    return total / len(loader)


torch.manual_seed(3)
torch.set_num_threads(1)
inputs = torch.randn(40, 8)
loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=2, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    print(f"epoch {epoch}: {train_epoch(model, loader, optimizer, 4, 0.1):.4f}")
