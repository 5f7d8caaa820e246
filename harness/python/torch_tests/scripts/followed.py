"""Two networks of values that own their optimizers, and a target of each that follows by hand: the targets' never step."""

import sys

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Values(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(6, 16), nn.Linear(16, 1)
        self.optimizer = torch.optim.Adam(self.parameters(), lr=3e-3)

    def forward(self, seen):
        return self.head(torch.relu(self.body(seen)))

    def learn(self, seen, wanted):
        loss = functional.smooth_l1_loss(self(seen), wanted)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def follow(self, other, share):
        for mine, its in zip(self.parameters(), other.parameters()):
            mine.data.mul_(1 - share).add_(its.data, alpha=share)


networks, targets = [Values(), Values()], [Values(), Values()]
for target, network in zip(targets, networks):
    target.load_state_dict(network.state_dict())
for step in range(40):
    seen, after, gained = torch.randn(16, 6), torch.randn(16, 6), torch.rand(16, 1)
    with torch.no_grad():
        wanted = gained + 0.9 * torch.min(*(target(after) for target in targets))
    losses = [network.learn(seen, wanted) for network in networks]
    for target, network in zip(targets, networks):
        target.follow(network, 0.05)
    if step % 10 == 9:
        print(f"step {step}: {sum(losses):.3f}")
