"""A loop on accelerate that validates within an epoch (accelerate#4248)."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
inputs, targets = torch.randn(48, 8), torch.randn(48, 1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
loader = DataLoader(TensorDataset(inputs[:40], targets[:40]), batch_size=2, shuffle=True)
held_out = DataLoader(TensorDataset(inputs[40:], targets[40:]), batch_size=4)
model, optimizer, loader, held_out = accelerator.prepare(model, optimizer, loader, held_out)
for epoch in range(3):
    model.train()
    for index, (batch, values) in enumerate(loader):
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(batch), values)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        if index == 5:
            model.eval()
            with torch.no_grad():
                for seen, (batch, values) in enumerate(held_out):
                    error = nn.functional.mse_loss(model(batch), values)
            model.train()
    accelerator.print(f"epoch {epoch}: {loss.item():.4f}, {error.item():.4f}")
