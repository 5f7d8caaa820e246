"""An iterable dataset that three workers read (finetrainers#415, datasets#8669)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    def __init__(self):
        self.rows = torch.randn(40, 8, generator=torch.Generator().manual_seed(0))

    def __iter__(self):
        worker = get_worker_info()
        for row in self.rows[worker.id :: worker.num_workers]:
            yield row, row.sum().view(1)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Stream(), batch_size=4, num_workers=3)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for epoch in range(3):
        for batch, targets in loader:
            loss = nn.functional.mse_loss(model(batch), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")
