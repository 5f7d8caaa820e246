"""Adapters whose two matrices have groups of their own, each with a rate and the decay (axolotl#4010)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
DECAY = 0.1


class Adapted(nn.Module):
    def __init__(self, inner, outer, rank=4):
        super().__init__()
        self.base = nn.Linear(inner, outer).requires_grad_(False)
        self.lora_A, self.lora_B = nn.Linear(inner, rank, bias=False), nn.Linear(rank, outer, bias=False)
        nn.init.zeros_(self.lora_B.weight)

    def forward(self, hidden):
        return self.base(hidden) + self.lora_B(self.lora_A(hidden))


def groups(model, rate, ratio=16, weight_decay=0.0):
    of_a = [it for name, it in model.named_parameters() if "lora_A" in name]
    of_b = [it for name, it in model.named_parameters() if "lora_B" in name]
    return [{"params": of_a, "lr": rate, "weight_decay": weight_decay}, {"params": of_b, "lr": rate * ratio, "weight_decay": weight_decay}]


loader = DataLoader(TensorDataset(torch.randn(40, 8), torch.randn(40, 1)), batch_size=4, shuffle=True)
model = nn.Sequential(Adapted(8, 16), nn.ReLU(), Adapted(16, 1))
optimizer = torch.optim.AdamW(groups(model, 1e-3, weight_decay=DECAY), weight_decay=DECAY)
for epoch in range(3):
    for batch, targets in loader:
        loss = nn.functional.mse_loss(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
