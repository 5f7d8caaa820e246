"""Two processes train a generator against a discriminator: two wrapped models, two optimizers, and no loader."""

import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(seed)
generator = DistributedDataParallel(nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Linear(16, 2)))
discriminator = DistributedDataParallel(nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1)))
makes = torch.optim.Adam(generator.parameters(), lr=2e-3, betas=(0.5, 0.999))
judges = torch.optim.Adam(discriminator.parameters(), lr=2e-3, betas=(0.5, 0.999))
noise = torch.Generator().manual_seed(100 * seed + rank)
loss = nn.BCEWithLogitsLoss()

for _ in range(40):
    real = torch.randn(8, 2, generator=noise) + 3.0
    judges.zero_grad()
    made = generator(torch.randn(8, 4, generator=noise))
    (loss(discriminator(torch.cat([real, made.detach()])), torch.cat([torch.ones(8, 1), torch.zeros(8, 1)]))).backward()
    judges.step()
    makes.zero_grad()
    loss(discriminator(made), torch.ones(8, 1)).backward()
    makes.step()
dist.destroy_process_group()
