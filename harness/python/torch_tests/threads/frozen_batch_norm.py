"""A head on a frozen encoder with a batch norm (gt-pyg#112, lightning#15062, lightly#1438)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 1)

    def forward(self, rows):
        return self.head(self.backbone(rows))


inputs = torch.randn(40, 8) * 2 + 1
loader = DataLoader(TensorDataset(inputs, inputs.sum(1, keepdim=True)), batch_size=4, shuffle=True)
model = Model()
model.backbone.requires_grad_(False)
model.backbone.eval()
optimizer = torch.optim.AdamW(model.head.parameters(), lr=1e-2)
for epoch in range(3):
    model.train()
    model.backbone.eval()
    for batch, targets in loader:
        loss = nn.functional.mse_loss(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
