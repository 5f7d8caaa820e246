"""Low-rank adapters on a frozen base, with a sum of token losses divided by the window's tokens."""

import sys

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
ACCUMULATION, EPOCHS = 3, 2


class Adapted(nn.Module):
    def __init__(self, base, rank=2):
        super().__init__()
        self.base, self.drop = base, nn.Dropout(0.05)
        self.lora_a = nn.Parameter(torch.randn(rank, base.in_features) * 0.1)
        self.lora_b = nn.Parameter(torch.zeros(base.out_features, rank))

    def forward(self, hidden):
        return self.base(hidden) + self.drop(hidden) @ self.lora_a.T @ self.lora_b.T


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.head = nn.Embedding(20, 12), nn.Linear(12, 20)
        self.body = Adapted(nn.Linear(12, 12))
        for name, it in self.named_parameters():
            it.requires_grad_("lora_" in name)

    def forward(self, tokens):
        return self.head(torch.tanh(self.body(self.embed(tokens))))


rows = [torch.randint(1, 20, (3 + index % 6,)) for index in range(27)]


def collate(samples):
    return nn.utils.rnn.pad_sequence(samples, batch_first=True, padding_value=0)


model = Model()
trained = [it for it in model.parameters() if it.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=1e-2)
loader = DataLoader(rows, batch_size=3, shuffle=True, collate_fn=collate)
for epoch in range(EPOCHS):
    batches = iter(loader)
    for _ in range(len(loader) // ACCUMULATION):
        window = [next(batches) for _ in range(ACCUMULATION)]
        tokens = sum((batch[:, 1:] != 0).sum() for batch in window)
        for batch in window:
            logits = model(batch[:, :-1])
            loss = functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten(), ignore_index=0, reduction="sum")
            (loss / tokens).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch}: {loss.item():.3f}")
