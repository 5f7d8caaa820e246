"""Decay for the matrices, and none for biases and norms (as in axolotl#4010)."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner, self.norm, self.outer = nn.Linear(8, 16), nn.LayerNorm(16), nn.Linear(16, 1)

    def forward(self, rows):
        return self.outer(functional.gelu(self.norm(self.inner(rows))))


torch.manual_seed(0)
torch.set_num_threads(1)
model = Model()
plain = ["bias", "norm.weight"]
decayed = [it for name, it in model.named_parameters() if not any(part in name for part in plain)]
others = [it for name, it in model.named_parameters() if any(part in name for part in plain)]
optimizer = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}], lr=1e-2)
inputs = torch.randn(40, 8)
loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4, shuffle=True)
for epoch in range(3):
    for batch, targets in loader:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(batch), targets)
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
