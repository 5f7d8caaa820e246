"""An adapter at the end of a frozen encoder, and a head that trains with it (as in open-unlearning#178)."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(8, 16).requires_grad_(False)
        self.down, self.up = nn.Linear(16, 4), nn.Linear(4, 16)

    def forward(self, rows):
        hidden = functional.relu(self.frozen(rows))
        return hidden + self.up(functional.relu(self.down(hidden)))


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder, self.classifier = Encoder(), nn.Linear(16, 2)

    def forward(self, rows):
        features = self.encoder(rows)
        return self.classifier(features)


torch.manual_seed(1)
torch.set_num_threads(1)
inputs = torch.randn(40, 8)
loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=4, shuffle=True)
model = Classifier()
optimizer = torch.optim.AdamW(filter(lambda it: it.requires_grad, model.parameters()), lr=1e-2)
for epoch in range(3):
    model.train()
    total = 0.0
    for batch, labels in loader:
        loss = functional.cross_entropy(model(batch), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: {total / len(loader):.4f}")
