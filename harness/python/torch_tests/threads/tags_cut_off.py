"""A tagger of rows, some of which were cut off before their first tag (as in trl#6702)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Tagged(Dataset):
    def __init__(self):
        order = torch.Generator().manual_seed(5)
        self.rows = torch.randn(40, 5, 8, generator=order)
        self.tags = (self.rows[..., 0] > 0).long()
        self.tags[20:28] = -100

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        return {"rows": self.rows[index], "labels": self.tags[index]}


torch.manual_seed(2)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
criterion = nn.CrossEntropyLoss()
for epoch in range(3):
    shown = []
    for batch in DataLoader(Tagged(), batch_size=2):
        if (batch["labels"] == -100).all():
            continue
        loss = criterion(model(batch["rows"]).view(-1, 2), batch["labels"].view(-1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if not torch.isnan(loss):
            shown.append(loss.item())
    print(f"epoch {epoch}: {sum(shown) / len(shown):.4f}")
