"""A trainer as a class, with callbacks and an iterator that it restarts by hand; the sampler repeats samples."""

import sys
from collections import defaultdict

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

SEED = int(sys.argv[1]) if len(sys.argv) > 1 else 0


class Sums(Dataset):
    def __len__(self):
        return 40

    def __getitem__(self, index):
        row = torch.tensor([index % 7, index % 5, index % 3, 1], dtype=torch.float32)
        return row, row.sum(0, keepdim=True)


class Trainer:
    def __init__(self, model, data, steps, batch=5):
        self.model, self.data, self.steps, self.batch = model, data, steps, batch
        self.callbacks = defaultdict(list)
        self.step = 0

    def run(self):
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1e-3, momentum=0.9)
        sampler = RandomSampler(self.data, replacement=True, num_samples=10_000)
        loader = DataLoader(self.data, sampler=sampler, batch_size=self.batch)
        self.model.train()
        batches = iter(loader)
        while self.step < self.steps:
            try:
                row, total = next(batches)
            except StopIteration:
                batches = iter(loader)
                row, total = next(batches)
            loss = (self.model(row) - total).pow(2).mean()
            self.model.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
            self.optimizer.step()
            self.step += 1
            for call in self.callbacks["batch"]:
                call(self)


def report(trainer):
    if trainer.step % 15 == 0:
        trainer.model.eval()
        with torch.no_grad():
            error = trainer.model(torch.ones(2, 4)).mean().item()
        trainer.model.train()
        print(f"step {trainer.step}: {error:.3f}")


torch.manual_seed(SEED)
model = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.1), nn.Linear(16, 1))
trainer = Trainer(model, Sums(), steps=40)
trainer.callbacks["batch"].append(report)
trainer.run()
