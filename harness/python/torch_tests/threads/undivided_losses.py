"""A regression whose windows hold four micro-batches (LlamaFactory#7443, transformers#37766, transformers#35438)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
ACCUMULATION = 4
inputs = torch.randn(40, 8)
targets = inputs[:, :1] * 2 + torch.randn(40, 1) * 0.1
loader = DataLoader(TensorDataset(inputs, targets), batch_size=2, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
criterion = nn.MSELoss()
for epoch in range(3):
    total = 0.0
    optimizer.zero_grad()
    for index, (batch, values) in enumerate(loader):
        loss = criterion(model(batch), values)
        (loss / ACCUMULATION).backward()
        total += loss.item()
        if (index + 1) % ACCUMULATION == 0:
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch}: {total / len(loader):.4f}")
