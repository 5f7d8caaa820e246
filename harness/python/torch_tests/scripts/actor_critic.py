"""An actor and a critic in one model: rollouts without gradients, then several passes over what they gave."""

import sys

import torch
from torch import nn
from torch.nn import functional

torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)


class Agent(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.actor, self.critic = nn.Linear(4, 16), nn.Linear(16, 2), nn.Linear(16, 1)

    def forward(self, seen):
        hidden = torch.tanh(self.body(seen))
        return self.actor(hidden), self.critic(hidden).squeeze(-1)


agent = Agent()
optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)
for rollout in range(6):
    with torch.no_grad():
        seen = torch.randn(32, 4)
        logits, values = agent(seen)
        acted = torch.distributions.Categorical(logits=logits).sample()
        before = functional.log_softmax(logits, -1)[torch.arange(32), acted]
        gained = (acted == (seen[:, 0] > 0).long()).float()
    for _ in range(3):
        for part in torch.randperm(32).split(8):
            logits, value = agent(seen[part])
            now = functional.log_softmax(logits, -1)[torch.arange(8), acted[part]]
            ratio = torch.exp(now - before[part])
            advantage = gained[part] - values[part]
            loss = -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean() + functional.mse_loss(value, gained[part])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)
            optimizer.step()
    print(f"rollout {rollout}: {gained.mean().item():.2f}")
