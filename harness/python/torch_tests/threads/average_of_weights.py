"""An average of the weights beside a model whose windows hold four micro-batches (F5-TTS#631, keras#18949)."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
ACCUMULATION = 4


class Average:
    def __init__(self, model, decay=0.9):
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, model):
        for mean, it in zip(self.model.parameters(), model.parameters()):
            mean.mul_(self.decay).add_(it, alpha=1 - self.decay)


loader = DataLoader(TensorDataset(torch.randn(40, 8), torch.randn(40, 1)), batch_size=2, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
average = Average(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    for index, (batch, targets) in enumerate(loader):
        loss = nn.functional.mse_loss(model(batch), targets) / ACCUMULATION
        loss.backward()
        if (index + 1) % ACCUMULATION == 0:
            optimizer.step()
            optimizer.zero_grad()
            average.update(model)
    print(f"epoch {epoch}: {loss.item() * ACCUMULATION:.4f}")
