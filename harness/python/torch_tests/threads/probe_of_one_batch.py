"""A loop on accelerate that looks at one held-out batch within an epoch (as in accelerate#4248)."""

import torch
from accelerate import Accelerator
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(11)
torch.set_num_threads(1)
accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
inputs = torch.randn(44, 8)
targets = inputs.mean(1, keepdim=True)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
loader = DataLoader(TensorDataset(inputs[:40], targets[:40]), batch_size=2, shuffle=True)
probes = DataLoader(TensorDataset(inputs[40:], targets[40:]), batch_size=4)
model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
for epoch in range(3):
    for index, (batch, values) in enumerate(loader):
        with accelerator.accumulate(model):
            loss = functional.mse_loss(model(batch), values)
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
        if index == 9:
            probe, expected = next(iter(probes))
            with torch.no_grad():
                accelerator.print(f"probe: {functional.mse_loss(model(probe), expected).item():.4f}")
