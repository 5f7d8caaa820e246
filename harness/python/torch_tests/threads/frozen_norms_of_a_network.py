"""A convolutional network that trains with frozen batch norms, and is evaluated after each epoch (as in gt-pyg#112)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Network(nn.Module):
    def __init__(self, classes=3):
        super().__init__()
        self.first, self.norm = nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4)
        self.second, self.other_norm = nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        hidden = torch.relu(self.norm(self.first(images)))
        hidden = torch.relu(self.other_norm(self.second(hidden)))
        return self.head(hidden.mean((2, 3)))


def freeze_norms():
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
            module.requires_grad_(False)


def accuracy():
    model.eval()
    with torch.no_grad():
        right = sum((model(images).argmax(1) == labels).sum().item() for images, labels in held_out)
    model.train()
    freeze_norms()
    return right / 16


torch.manual_seed(0)
torch.set_num_threads(1)
train, rest = random_split(TensorDataset(torch.randn(56, 1, 6, 6), torch.randint(0, 3, (56,))), [40, 16])
loader, held_out = DataLoader(train, batch_size=4, shuffle=True), DataLoader(rest, batch_size=8)
model = Network()
model.train()
freeze_norms()
optimizer = torch.optim.AdamW([it for it in model.parameters() if it.requires_grad], lr=1e-2)
for epoch in range(3):
    for images, labels in loader:
        optimizer.zero_grad(set_to_none=True)
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
    print(f"epoch {epoch}: {accuracy():.2f}")
