"""Adapters in frozen blocks that are recomputed, behind a frozen embedding (open-unlearning#178, unsloth#5039, sd-scripts#91)."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)


class Adapted(nn.Module):
    def __init__(self, width, rank=4):
        super().__init__()
        self.base = nn.Linear(width, width).requires_grad_(False)
        self.lora_A = nn.Parameter(torch.randn(rank, width) * 0.1)
        self.lora_B = nn.Parameter(torch.zeros(width, rank))

    def forward(self, hidden):
        return torch.relu(self.base(hidden) + hidden @ self.lora_A.T @ self.lora_B.T)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 16).requires_grad_(False)
        self.blocks = nn.ModuleList(Adapted(16) for _ in range(3))
        self.head = nn.Linear(16, 1)

    def forward(self, tokens):
        hidden = self.embed(tokens).mean(1)
        for block in self.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=False)
        return self.head(hidden)


loader = DataLoader(TensorDataset(torch.randint(0, 20, (40, 6)), torch.randn(40, 1)), batch_size=4, shuffle=True)
model = Model()
optimizer = torch.optim.AdamW([it for it in model.parameters() if it.requires_grad], lr=1e-2)
for epoch in range(3):
    for tokens, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(tokens), targets)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
