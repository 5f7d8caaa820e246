"""A generator and a discriminator, each with an optimizer; the discriminator has two backward passes per update."""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
generator = nn.Sequential(nn.Linear(3, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4))
discriminator = nn.Sequential(nn.Linear(4, 16), nn.LeakyReLU(0.2), nn.Dropout(0.1), nn.Linear(16, 1))
criterion = nn.BCEWithLogitsLoss()
of_discriminator = torch.optim.Adam(discriminator.parameters(), lr=2e-4, betas=(0.5, 0.999))
of_generator = torch.optim.Adam(generator.parameters(), lr=2e-4, betas=(0.5, 0.999))
loader = DataLoader(TensorDataset(torch.randn(48, 4) * 2 + 1), batch_size=6, shuffle=True)
fixed = torch.randn(4, 3)

for epoch in range(3):
    for (real,) in loader:
        discriminator.zero_grad()
        criterion(discriminator(real), torch.ones(len(real), 1)).backward()
        made = generator(torch.randn(len(real), 3))
        criterion(discriminator(made.detach()), torch.zeros(len(real), 1)).backward()
        of_discriminator.step()
        generator.zero_grad()
        criterion(discriminator(made), torch.ones(len(real), 1)).backward()
        of_generator.step()
    with torch.no_grad():
        print(f"epoch {epoch}: {generator(fixed).mean().item():.3f}")
