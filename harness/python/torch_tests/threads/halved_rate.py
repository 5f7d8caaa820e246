"""A trainer that halves its rate after each epoch (as in brulee#56)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Trainer:
    def __init__(self, model, loader, rate=1e-2):
        self.model, self.loader, self.rate = model, loader, rate
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=rate)

    def halve(self):
        self.rate /= 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate

    def fit(self, epochs):
        for epoch in range(epochs):
            for index, (batch, labels) in enumerate(self.loader):
                loss = nn.functional.cross_entropy(self.model(batch), labels) / 2
                loss.backward()
                if index % 2 == 1:
                    self.optimizer.step()
                    self.optimizer.zero_grad()
            print(f"epoch {epoch}: {loss.item() * 2:.4f}")
            self.halve()


torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(40, 8)
loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=2, shuffle=True)
Trainer(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2)), loader).fit(3)
