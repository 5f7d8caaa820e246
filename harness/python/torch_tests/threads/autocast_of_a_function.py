"""A classifier whose whole training function is under autocast, without its cache, on shuffled batches (as in Flow-Factory#186)."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(8, 16), nn.Linear(16, 2)

    def forward(self, rows):
        return self.second(functional.relu(self.first(rows)))


@torch.autocast("cpu", dtype=torch.bfloat16, cache_enabled=False)
def train(model, loader, optimizer, epochs):
    for epoch in range(epochs):
        seen, total = 0, 0.0
        for batch, labels in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(model(batch).float(), labels)
            loss.backward()
            optimizer.step()
            seen, total = seen + len(batch), total + loss.item() * len(batch)
        print(f"epoch {epoch}: {total / seen:.4f}")


torch.manual_seed(0)
torch.set_num_threads(1)
classes = torch.randint(0, 2, (40,))
rows = torch.randn(40, 8) + classes[:, None] * 1.5
model = Classifier()
loader = DataLoader(TensorDataset(rows, classes), batch_size=4, shuffle=True)
train(model, loader, torch.optim.AdamW(model.parameters(), lr=1e-2), 4)
