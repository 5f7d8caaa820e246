"""A model is prepared, which replaces each of its tensors, and then its optimizer is made (accelerate#3256)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def prepared(model):
    for module in model.modules():
        for name, it in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(it.detach().clone()))
    return model


torch.manual_seed(0)
torch.set_num_threads(1)
loader = DataLoader(TensorDataset(torch.randn(40, 8), torch.randn(40, 1)), batch_size=4, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
model = prepared(model)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
for epoch in range(3):
    for batch, targets in loader:
        loss = nn.functional.mse_loss(model(batch), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}")
