"""A loop on accelerate, with `accumulate` and a scheduler that it prepared."""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

set_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
accelerator = Accelerator(gradient_accumulation_steps=4, cpu=True)
inputs = torch.randn(46, 8)
targets = inputs.sum(1, keepdim=True)
loader = DataLoader(TensorDataset(inputs[:38], targets[:38]), batch_size=2, shuffle=True)
held_out = DataLoader(TensorDataset(inputs[38:], targets[38:]), batch_size=4)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=3 * 5 + 1)
model, optimizer, loader, held_out, scheduler = accelerator.prepare(model, optimizer, loader, held_out, scheduler)
for epoch in range(3):
    model.train()
    for batch, target in loader:
        with accelerator.accumulate(model):
            loss = nn.functional.mse_loss(model(batch), target)
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        error = sum(nn.functional.mse_loss(model(batch), target).item() for batch, target in held_out)
    accelerator.print(f"epoch {epoch}: {error:.3f}")
