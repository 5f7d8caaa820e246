"""A language model on random crops of a text: no loader, the next batch made before the backward pass, rates by hand."""

import math
import sys

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
STEPS, ACCUMULATION, WARMUP, PEAK, LOWEST, WIDTH = 24, 4, 4, 1e-2, 1e-3, 16
text = torch.randint(0, 24, (600,))


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.drop = nn.Embedding(24, 16), nn.Dropout(0.1)
        self.mix, self.output = nn.GRU(16, 32, batch_first=True), nn.Linear(32, 24)

    def forward(self, tokens, targets=None):
        logits = self.output(self.drop(self.mix(self.embed(tokens))[0]))
        if targets is None:
            return logits, None
        return logits, functional.cross_entropy(logits.view(-1, 24), targets.view(-1))


def crop():
    starts = torch.randint(len(text) - WIDTH - 1, (4,)).tolist()
    return torch.stack([text[at : at + WIDTH] for at in starts]), torch.stack([text[at + 1 : at + WIDTH + 1] for at in starts])


def rate(step):
    if step < WARMUP:
        return PEAK * (step + 1) / (WARMUP + 1)
    share = (step - WARMUP) / (STEPS - WARMUP)
    return LOWEST + 0.5 * (1 + math.cos(math.pi * share)) * (PEAK - LOWEST)


@torch.no_grad()
def evaluate():
    model.eval()
    losses = [model(*crop())[1].item() for _ in range(3)]
    model.train()
    return sum(losses) / len(losses)


model = Model()
optimizer = torch.optim.AdamW(model.parameters(), lr=PEAK, betas=(0.9, 0.95))
tokens, targets = crop()
for step in range(STEPS):
    for group in optimizer.param_groups:
        group["lr"] = rate(step)
    if step % 8 == 0:
        print(f"step {step}: {evaluate():.3f}")
    for _ in range(ACCUMULATION):
        logits, loss = model(tokens, targets)
        loss = loss / ACCUMULATION
        tokens, targets = crop()
        loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
