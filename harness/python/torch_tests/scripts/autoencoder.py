"""A variational autoencoder: its forward draws random numbers in evaluation too, and its loss is a sum of two."""

import sys

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Autoencoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.mean, self.spread, self.outer = nn.Linear(12, 8), nn.Linear(8, 2), nn.Linear(8, 2), nn.Linear(2, 12)
        self.drop = nn.Dropout(0.05)

    def forward(self, row):
        hidden = self.drop(functional.relu(self.inner(row)))
        mean, log_variance = self.mean(hidden), self.spread(hidden)
        code = mean + torch.randn_like(mean) * torch.exp(0.5 * log_variance)
        return torch.sigmoid(self.outer(code)), mean, log_variance


def loss_of(made, row, mean, log_variance):
    rebuilt = functional.binary_cross_entropy(made, row, reduction="sum")
    return rebuilt - 0.5 * torch.sum(1 + log_variance - mean.pow(2) - log_variance.exp())


torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
rows = torch.rand(56, 12)
loader = DataLoader(TensorDataset(rows[:40]), batch_size=8, shuffle=True)
held_out = DataLoader(TensorDataset(rows[40:]), batch_size=8, shuffle=False)
model = Autoencoder()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(4):
    model.train()
    for (row,) in loader:
        optimizer.zero_grad()
        loss = loss_of(model(row)[0], row, *model(row)[1:])
        loss.backward()
        optimizer.step()
    model.eval()
    total = 0.0
    with torch.no_grad():
        for (row,) in held_out:
            made, mean, log_variance = model(row)
            total += loss_of(made, row, mean, log_variance).item()
    print(f"epoch {epoch}: {total / 16:.3f}")
