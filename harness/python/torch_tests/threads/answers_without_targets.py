"""Answers are learned, prompts are not, and in some rows no answer is found (trl#6702, trl#6668, transformers#13758)."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
IGNORED = -100
tokens = torch.randint(0, 20, (40, 6))
labels = tokens.clone()
labels[:, :3] = IGNORED
labels[8:24] = IGNORED
loader = DataLoader(TensorDataset(tokens, labels), batch_size=4)
model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    for batch, answers in loader:
        targets = answers[:, 1:].reshape(-1)
        count = (targets != IGNORED).sum()
        if count == 0:
            continue
        logits = model(batch)[:, :-1].reshape(-1, 20)
        loss = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum") / count.clamp(min=1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
