"""Windows of three micro-batches, of which each epoch has three (lightning#21808)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
ACCUMULATION = 3
loader = DataLoader(TensorDataset(torch.randn(12, 8), torch.randn(12, 1)), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(6):
    for index, (batch, targets) in enumerate(loader):
        loss = nn.functional.mse_loss(model(batch), targets)
        (loss / ACCUMULATION).backward()
        if (index + 1) % ACCUMULATION == 0 or index + 1 == len(loader):
            optimizer.step()
            optimizer.zero_grad()
    print(f"epoch {epoch}: {loss.item():.4f}")
