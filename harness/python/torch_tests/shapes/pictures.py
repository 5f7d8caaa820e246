"""Trains a small residual network on generated pictures: label smoothing, SGD, an EMA of the weights, accumulation."""

import argparse
import math
import os

import torch
import torch.nn.functional as F
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, Dataset


class Pictures(Dataset):
    def __init__(self, count, seed, augment):
        g = torch.Generator().manual_seed(seed)
        self.labels = torch.randint(0, 4, (count,), generator=g)
        coarse = torch.randn(4, 3, 2, 2, generator=torch.Generator().manual_seed(99))
        prototypes = F.interpolate(coarse, size=16, mode="bilinear")
        self.images = prototypes[self.labels] + 0.7 * torch.randn(count, 3, 16, 16, generator=g)
        self.augment = augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        x = self.images[i]
        if self.augment:
            dy, dx = torch.randint(0, 5, (2,)).tolist()
            x = F.pad(x, (2, 2, 2, 2))[:, dy:dy + 16, dx:dx + 16]
            if torch.rand(()) < 0.5:
                x = x.flip(-1)
        return x, self.labels[i]


class Block(nn.Module):
    def __init__(self, cin, cout, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(cin, cout, 3, stride, 1, bias=False), nn.BatchNorm2d(cout)
        self.conv2, self.bn2 = nn.Conv2d(cout, cout, 3, 1, 1, bias=False), nn.BatchNorm2d(cout)
        self.down = nn.Sequential(nn.Conv2d(cin, cout, 1, stride, bias=False), nn.BatchNorm2d(cout))

    def forward(self, x):
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.down(x))


class Net(nn.Module):
    def __init__(self, classes=4, width=8):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.layer1, self.layer2 = Block(width, width, 1), Block(width, width * 2, 2)
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(width * 2, classes)

    def forward(self, x):
        x = self.layer2(self.layer1(self.stem(x)))
        return self.fc(self.drop(x.mean((2, 3))))


def param_groups(model, weight_decay):
    decay, no_decay = [], []
    for p in model.parameters():
        (no_decay if p.ndim <= 1 else decay).append(p)
    return [{"params": decay, "weight_decay": weight_decay}, {"params": no_decay, "weight_decay": 0.0}]


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = loss = 0
    for x, y in loader:
        out = model(x)
        loss += F.cross_entropy(out, y, reduction="sum").item()
        correct += (out.argmax(1) == y).sum().item()
        total += y.numel()
    return loss / total, correct / total


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--accum", type=int, default=4)
    parser.add_argument("--lr", type=float, default=0.1)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    parser.add_argument("--warmup", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", default="out")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()

    torch.manual_seed(args.seed)
    train_set, val_set = Pictures(176, args.seed, True), Pictures(60, args.seed + 1, False)
    train_loader = DataLoader(train_set, batch_size=args.batch_size, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=32)

    model = Net()
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=True)
    optimizer = torch.optim.SGD(param_groups(model, args.weight_decay), lr=args.lr, momentum=0.9, nesterov=True)
    criterion = nn.CrossEntropyLoss(label_smoothing=0.1)
    updates_per_epoch = math.ceil(len(train_loader) / args.accum)
    total_steps = args.epochs * updates_per_epoch

    def factor(step):
        if step < args.warmup:
            return (step + 1) / args.warmup
        return 0.5 * (1 + math.cos(math.pi * (step - args.warmup) / (total_steps - args.warmup)))

    scheduler = LambdaLR(optimizer, factor)
    start_epoch, best = 0, 0.0
    os.makedirs(args.out, exist_ok=True)
    path = os.path.join(args.out, "last.pt")
    if args.resume and os.path.exists(path):
        ckpt = torch.load(path)
        model.load_state_dict(ckpt["model"])
        ema.load_state_dict(ckpt["ema"])
        optimizer.load_state_dict(ckpt["optimizer"])
        scheduler.load_state_dict(ckpt["scheduler"])
        start_epoch, best = ckpt["epoch"], ckpt["best"]
        torch.set_rng_state(ckpt["rng"])

    for epoch in range(start_epoch, args.epochs):
        model.train()
        running = 0.0
        for i, (x, y) in enumerate(train_loader):
            window = min(args.accum, len(train_loader) - i // args.accum * args.accum)
            loss = criterion(model(x), y) / window
            loss.backward()
            running += loss.item() * window
            if (i + 1) % args.accum == 0 or i + 1 == len(train_loader):
                nn.utils.clip_grad_norm_(model.parameters(), 2.0)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                ema.update_parameters(model)
        val_loss, val_acc = evaluate(model, val_loader)
        ema_loss, ema_acc = evaluate(ema, val_loader)
        print(f"epoch {epoch} loss {running / len(train_loader):.4f} lr {scheduler.get_last_lr()[0]:.4f} "
              f"val {val_loss:.4f} {val_acc:.3f} ema {ema_loss:.4f} {ema_acc:.3f}", flush=True)
        if ema_acc >= best:
            best = ema_acc
            torch.save(ema.module.state_dict(), os.path.join(args.out, "best.pt"))
        ckpt = {"model": model.state_dict(), "ema": ema.state_dict(), "optimizer": optimizer.state_dict(),
                "scheduler": scheduler.state_dict(), "epoch": epoch + 1, "best": best, "rng": torch.get_rng_state()}
        torch.save(ckpt, path + ".tmp")
        os.replace(path + ".tmp", path)


if __name__ == "__main__":
    main()
