"""Class-conditional DDPM on 1x8x8 pictures, with classifier-free guidance and EMA weights for sampling."""

import argparse
import copy
import math
import os

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

CLASSES, T, BATCH, ACCUM, EPOCHS = 4, 50, 8, 4, 4


def pictures(n, generator):
    """Bars at four angles, with noise, in [-1, 1]."""
    y = torch.randint(0, CLASSES, (n,), generator=generator)
    grid = torch.stack(torch.meshgrid(torch.linspace(-1, 1, 8), torch.linspace(-1, 1, 8), indexing="ij"))
    angle = y * math.pi / CLASSES
    distance = (torch.cos(angle)[:, None, None] * grid[0] + torch.sin(angle)[:, None, None] * grid[1]).abs()
    x = 1.0 - 2.0 * (distance > 0.3).float() + 0.05 * torch.randn(n, 8, 8, generator=generator)
    return x.unsqueeze(1), y


def timestep_embedding(t, dim):
    freqs = torch.exp(-math.log(1000.0) * torch.arange(dim // 2) / (dim // 2))
    args = t[:, None].float() * freqs[None]
    return torch.cat([args.cos(), args.sin()], dim=-1)


class Denoiser(nn.Module):
    def __init__(self, width=16, dim=16, p=0.1):
        super().__init__()
        self.dim = dim
        self.label = nn.Embedding(CLASSES + 1, dim)  # the last one is "no label"
        self.time = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.conv_in = nn.Conv2d(1, width, 3, padding=1)
        self.norm1 = nn.GroupNorm(4, width)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.emb = nn.Linear(dim, width)
        self.norm2 = nn.GroupNorm(4, width)
        self.drop = nn.Dropout(p)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.conv_out = nn.Conv2d(width, 1, 3, padding=1)

    def forward(self, x, t, y):
        emb = self.time(timestep_embedding(t, self.dim)) + self.label(y)
        h = self.conv_in(x)
        r = self.conv1(F.silu(self.norm1(h))) + self.emb(F.silu(emb))[:, :, None, None]
        h = h + self.conv2(self.drop(F.silu(self.norm2(r))))
        return self.conv_out(F.silu(h))


class Diffusion(nn.Module):
    def __init__(self, net, p_uncond=0.1):
        super().__init__()
        self.net, self.p_uncond = net, p_uncond
        betas = torch.linspace(1e-3, 0.2, T)
        alphas_bar = torch.cumprod(1.0 - betas, 0)
        self.register_buffer("betas", betas)
        self.register_buffer("alphas_bar", alphas_bar)
        self.register_buffer("sqrt_ab", alphas_bar.sqrt())
        self.register_buffer("sqrt_1mab", (1.0 - alphas_bar).sqrt())

    def forward(self, x0, y, generator=None):
        t = torch.randint(0, T, (x0.size(0),), generator=generator)
        noise = torch.randn(x0.shape, generator=generator)
        xt = self.sqrt_ab[t].view(-1, 1, 1, 1) * x0 + self.sqrt_1mab[t].view(-1, 1, 1, 1) * noise
        if self.training:
            drop = torch.rand(y.shape) < self.p_uncond
            y = torch.where(drop, torch.full_like(y, CLASSES), y)
        return F.mse_loss(self.net(xt, t, y), noise)

    @torch.no_grad()
    def sample(self, y, generator, guidance=1.5):
        x = torch.randn(y.size(0), 1, 8, 8, generator=generator)
        for i in reversed(range(T)):
            t = torch.full((y.size(0),), i)
            cond, uncond = self.net(x, t, y), self.net(x, t, torch.full_like(y, CLASSES))
            eps = uncond + guidance * (cond - uncond)
            x = (x - self.betas[i] / self.sqrt_1mab[i] * eps) / (1.0 - self.betas[i]).sqrt()
            if i > 0:
                x = x + self.betas[i].sqrt() * torch.randn(x.shape, generator=generator)
        return x


@torch.no_grad()
def update_ema(ema, model, decay):
    for e, p in zip(ema.parameters(), model.parameters()):
        e.lerp_(p, 1.0 - decay)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    generator, total, count = torch.Generator().manual_seed(1234), 0.0, 0
    for x, y in loader:
        total += model(x, y, generator).item() * x.size(0)
        count += x.size(0)
    return total / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, "last.pt")

    data = torch.Generator().manual_seed(0)
    train_loader = DataLoader(TensorDataset(*pictures(192, data)), BATCH, shuffle=True, drop_last=True)
    test_loader = DataLoader(TensorDataset(*pictures(64, data)), 16)

    model = Diffusion(Denoiser())
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    decay, no_decay = [], []
    for name, p in model.named_parameters():
        (no_decay if p.ndim == 1 or "label" in name else decay).append(p)
    optimizer = torch.optim.AdamW([{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}], lr=2e-3)
    updates, warmup = EPOCHS * len(train_loader) // ACCUM, 4
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min(1.0, (s + 1) / warmup) * 0.5 * (1.0 + math.cos(math.pi * s / updates)))
    start, step = 0, 0
    if args.resume and os.path.exists(path):
        state = torch.load(path)
        model.load_state_dict(state["model"])
        ema.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["rng"])
        start, step = state["epoch"] + 1, state["step"]

    for epoch in range(start, EPOCHS):
        model.train()
        running = 0.0
        for i, (x, y) in enumerate(train_loader):
            loss = model(x, y)
            (loss / ACCUM).backward()
            running += loss.item()
            if (i + 1) % ACCUM == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                scheduler.step()
                step += 1
                update_ema(ema, model, min(0.99, (1 + step) / (10 + step)))
        test = evaluate(ema, test_loader)
        samples = ema.sample(torch.arange(CLASSES).repeat(2), torch.Generator().manual_seed(7))
        print(f"epoch {epoch} train {running / len(train_loader):.4f} test {test:.4f} std {samples.std().item():.3f} lr {scheduler.get_last_lr()[0]:.2e}")
        torch.save({"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                    "scheduler": scheduler.state_dict(), "rng": torch.get_rng_state(), "epoch": epoch, "step": step}, path + ".tmp")
        os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main()
