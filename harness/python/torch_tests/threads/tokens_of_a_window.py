"""A token model whose loss is a sum over tokens, divided by the tokens of the whole window (as in LlamaFactory#7443)."""

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader

torch.manual_seed(7)
torch.set_num_threads(1)
ACCUMULATION, IGNORED = 5, -100
rows = [torch.randint(1, 20, (3 + index % 5,)) for index in range(40)]


def collate(samples):
    tokens = nn.utils.rnn.pad_sequence(samples, batch_first=True)
    return tokens, tokens.masked_fill(tokens == 0, IGNORED)


model = nn.Sequential(nn.Embedding(20, 16), nn.Linear(16, 20))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
loader = DataLoader(rows, batch_size=2, shuffle=True, collate_fn=collate)
for epoch in range(3):
    window = []
    for batch in loader:
        window.append(batch)
        if len(window) < ACCUMULATION:
            continue
        total, count = 0.0, sum((labels[:, 1:] != IGNORED).sum() for _, labels in window)
        for tokens, labels in window:
            logits, targets = model(tokens)[:, :-1], labels[:, 1:]
            loss = functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum") / count
            loss.backward()
            total += loss.item()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        window = []
    print(f"epoch {epoch}: {total:.4f}")
