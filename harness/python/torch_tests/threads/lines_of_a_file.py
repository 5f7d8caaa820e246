"""A file's lines, read by two workers through a shuffle buffer (as in finetrainers#415)."""

import random
import tempfile

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Lines(IterableDataset):
    def __init__(self, path, buffer=8):
        self.path, self.buffer, self.epoch = path, buffer, 0

    def rows(self):
        worker = get_worker_info()
        with open(self.path) as file:
            for number, line in enumerate(file):
                if number % worker.num_workers == worker.id:
                    *row, target = map(float, line.split())
                    yield torch.tensor(row), torch.tensor([target])

    def __iter__(self):
        order, held = random.Random(self.epoch), []
        for row in self.rows():
            held.append(row)
            if len(held) == self.buffer:
                yield held.pop(order.randrange(len(held)))
        order.shuffle(held)
        yield from held


if __name__ == "__main__":
    torch.manual_seed(4)
    torch.set_num_threads(1)
    with tempfile.NamedTemporaryFile("w") as file:
        file.writelines(" ".join(f"{it:.4f}" for it in [*row, sum(row)]) + "\n" for row in torch.randn(40, 8).tolist())
        file.flush()
        data = Lines(file.name)
        loader = DataLoader(data, batch_size=4, num_workers=2)
        model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for data.epoch in range(3):
            for batch, targets in loader:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(batch), targets)
                loss.backward()
                optimizer.step()
            print(f"epoch {data.epoch}: {loss.item():.4f}")
