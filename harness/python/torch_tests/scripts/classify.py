"""A classifier with accumulation, clipping, a cosine schedule and an evaluation per epoch."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
EPOCHS, ACCUMULATION = 3, 4
inputs = torch.randn(92, 16)
classes = inputs[:, :4].argmax(1)
train = TensorDataset(inputs[:78], classes[:78])
order = torch.Generator().manual_seed(1)
loader = DataLoader(train, batch_size=4, shuffle=True, generator=order)
held_out = DataLoader(TensorDataset(inputs[78:], classes[78:]), batch_size=7)

model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 4))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
updates = EPOCHS * -(-len(loader) // ACCUMULATION)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=updates)
criterion = nn.CrossEntropyLoss()

for epoch in range(EPOCHS):
    model.train()
    for index, (batch, labels) in enumerate(loader):
        loss = criterion(model(batch), labels) / ACCUMULATION
        loss.backward()
        if (index + 1) % ACCUMULATION == 0 or index + 1 == len(loader):
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    model.eval()
    with torch.no_grad():
        right = sum((model(batch).argmax(1) == labels).sum().item() for batch, labels in held_out)
    print(f"epoch {epoch}: {right} of {len(held_out.dataset)} right")
