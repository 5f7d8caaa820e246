"""A classifier that looks at the same random crop of its validation set each time (as in diffusers#7991)."""

import random

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def seed_all(seed):
    random.seed(seed)
    torch.manual_seed(seed)


def validate(seed=123):
    model.eval()
    with torch.no_grad():
        right = sum((model(batch).argmax(1) == labels).sum().item() for batch, labels in DataLoader(held_out, batch_size=8))
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            crop = torch.randint(0, len(held_out), (8,))
        mean = model(inputs[40:][crop]).mean().item()
    model.train()
    return right, mean


seed_all(42)
torch.set_num_threads(1)
inputs = torch.randn(56, 8)
labels = (inputs.sum(1) > 0).long()
held_out = TensorDataset(inputs[40:], labels[40:])
loader = DataLoader(TensorDataset(inputs[:40], labels[:40]), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(4):
    for batch, classes in loader:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(batch), classes).backward()
        optimizer.step()
    print(f"epoch {epoch}: {validate()}")
