"""A denoiser that draws the same pictures after each epoch, to compare them (diffusers#7991)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(1)
torch.set_num_threads(1)
images = torch.randn(40, 8)
order = torch.Generator().manual_seed(2)
loader = DataLoader(TensorDataset(images), batch_size=4, shuffle=True, generator=order)
model = nn.Sequential(nn.Linear(9, 16), nn.SiLU(), nn.Linear(16, 8))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)


def noisy(image):
    time, noise = torch.rand(len(image), 1), torch.randn_like(image)
    return torch.cat([(1 - time) * image + time * noise, time], 1), noise


@torch.no_grad()
def evaluate(seed=0):
    model.eval()
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(4, 8, generator=generator)
    for time in torch.linspace(1, 0.1, 5):
        image = image - 0.2 * model(torch.cat([image, time.expand(4, 1)], 1))
    model.train()
    return image.mean().item()


for epoch in range(4):
    for (image,) in loader:
        inputs, noise = noisy(image)
        loss = nn.functional.mse_loss(model(inputs), noise)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: {loss.item():.4f}, pictures {evaluate():.4f}")
