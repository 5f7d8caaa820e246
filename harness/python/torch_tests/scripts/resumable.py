"""A loop that saves a checkpoint per update and resumes from it: inside an epoch, with dropout, momentum and a schedule."""

import argparse
import os

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

EPOCHS, ACCUMULATION, SAMPLES, BATCH = 3, 4, 40, 4
parser = argparse.ArgumentParser()
parser.add_argument("--out", required=True)
parser.add_argument("--resume", action="store_true")
arguments = parser.parse_args()
path = os.path.join(arguments.out, "last.pt")


class Rows(Dataset):
    rows = torch.randn(SAMPLES, 8, generator=torch.Generator().manual_seed(3))

    def __len__(self):
        return SAMPLES

    def __getitem__(self, index):
        return self.rows[index], self.rows[index].sum(0, keepdim=True)


class Shuffled(Sampler):
    """Another order in each epoch, and the rest of one after a resume."""

    def __init__(self):
        self.epoch, self.skip = 0, 0

    def __iter__(self):
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(100 + self.epoch)).tolist()
        return iter(order[self.skip :])

    def __len__(self):
        return SAMPLES - self.skip


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2))
        self.head = nn.Linear(16, 1)

    def forward(self, rows):
        return self.head(self.body(rows))


torch.manual_seed(0)
sampler = Shuffled()
loader = DataLoader(Rows(), batch_size=BATCH, sampler=sampler)
model = Net()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=9)
done, start = 0, (0, 0)
if arguments.resume:
    saved = torch.load(path, weights_only=False)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    scheduler.load_state_dict(saved["scheduler"])
    done, start = saved["done"], saved["place"]
    torch.set_rng_state(saved["random"])

model.train()
for epoch in range(start[0], EPOCHS):
    first = start[1] if epoch == start[0] else 0
    sampler.epoch, sampler.skip = epoch, first * BATCH
    # A generator of its own: an iterator draws a seed for its workers.
    loader.generator = torch.Generator().manual_seed(epoch)
    for index, (rows, sums) in enumerate(loader, first):
        loss = nn.functional.mse_loss(model(rows), sums) / ACCUMULATION
        loss.backward()
        if (index + 1) % ACCUMULATION == 0 or index + 1 == SAMPLES // BATCH:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            done += 1
            place = (epoch, index + 1) if index + 1 < SAMPLES // BATCH else (epoch + 1, 0)
            state = {
                "model": model.state_dict(),
                "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(),
                "done": done,
                "place": place,
                "random": torch.get_rng_state(),
            }
            torch.save(state, path + ".new")
            os.replace(path + ".new", path)
print(f"{done} updates")
