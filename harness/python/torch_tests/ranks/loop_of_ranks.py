"""Two processes train one classifier: a wrapped model, a sampler per rank, and windows that are averaged once.

`torchrun --nproc_per_node 2 loop_of_ranks.py`
"""

import contextlib
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

ACCUMULATION, EPOCHS = 3, 3
seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
dist.init_process_group("gloo")
rank = dist.get_rank()

torch.manual_seed(seed)
points = torch.randn(187, 12)
labels = (points[:, :3].sum(1) > 0).long()
model = nn.Sequential(nn.Linear(12, 24), nn.GELU(), nn.LayerNorm(24), nn.Linear(24, 2))
wrapped = DistributedDataParallel(model)
torch.manual_seed(1000 * seed + rank)

rows = TensorDataset(points, labels)
sampler = DistributedSampler(rows, shuffle=True, seed=seed)
loader = DataLoader(rows, batch_size=6, sampler=sampler)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=EPOCHS * -(-len(loader) // ACCUMULATION))

for epoch in range(EPOCHS):
    sampler.set_epoch(epoch)
    for index, (inputs, targets) in enumerate(loader):
        last = (index + 1) % ACCUMULATION == 0 or index + 1 == len(loader)
        size = ACCUMULATION if index < len(loader) // ACCUMULATION * ACCUMULATION else len(loader) % ACCUMULATION
        with contextlib.nullcontext() if last else wrapped.no_sync():
            loss = nn.functional.cross_entropy(wrapped(inputs), targets)
            (loss / size).backward()
        if last:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
    if rank == 0:
        torch.save(model.state_dict(), "model.pt")
dist.destroy_process_group()
