"""Residual branches that are dropped by a generator of their own, outside of what is computed again (as in OLMo-core#828)."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset


class Branch(nn.Module):
    def __init__(self, width, dropped=0.4):
        super().__init__()
        self.inner, self.dropped = nn.Linear(width, width), dropped
        self.generator = torch.Generator().manual_seed(0)

    def mask(self, hidden):
        return (torch.rand(len(hidden), 1, generator=self.generator) > self.dropped).float()

    def forward(self, hidden, mask):
        return hidden + mask * functional.relu(self.inner(hidden))


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.head = nn.Linear(8, 16), nn.Linear(16, 2)
        self.branches = nn.ModuleList(Branch(16) for _ in range(3))

    def forward(self, rows):
        hidden = self.stem(rows)
        for branch in self.branches:
            hidden = checkpoint(branch, hidden, branch.mask(hidden), use_reentrant=True)
        return self.head(hidden)


torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(40, 8)
loader = DataLoader(TensorDataset(inputs, (inputs[:, 1] > 0).long()), batch_size=4, shuffle=True)
model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    for batch, labels in loader:
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(batch), labels)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
