"""Reverse number sequences with a small Transformer."""
import argparse
import math
import os
import random

import torch
import torch.nn as nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

PAD, BOS, EOS, VOCAB = 0, 1, 2, 16


class ReverseDataset(Dataset):
    def __init__(self, size, seed):
        rng = random.Random(seed)
        self.rows = [[rng.randint(3, VOCAB - 1) for _ in range(rng.randint(3, 9))] for _ in range(size)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        src = self.rows[index]
        return torch.tensor(src + [EOS]), torch.tensor([BOS] + src[::-1] + [EOS])


def collate(batch):
    srcs, tgts = zip(*batch)
    return pad_sequence(srcs, batch_first=True, padding_value=PAD), pad_sequence(tgts, batch_first=True, padding_value=PAD)


class PositionalEncoding(nn.Module):
    def __init__(self, d_model, dropout, max_len=64):
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        position = torch.arange(max_len).unsqueeze(1)
        div_term = torch.exp(torch.arange(0, d_model, 2) * (-math.log(10000.0) / d_model))
        pe = torch.zeros(1, max_len, d_model)
        pe[0, :, 0::2] = torch.sin(position * div_term)
        pe[0, :, 1::2] = torch.cos(position * div_term)
        self.register_buffer("pe", pe)

    def forward(self, x):
        return self.dropout(x + self.pe[:, : x.size(1)])


class Seq2Seq(nn.Module):
    def __init__(self, d_model=32, nhead=4, layers=1, dropout=0.1):
        super().__init__()
        self.d_model = d_model
        self.src_embed = nn.Embedding(VOCAB, d_model, padding_idx=PAD)
        self.tgt_embed = nn.Embedding(VOCAB, d_model, padding_idx=PAD)
        self.pos = PositionalEncoding(d_model, dropout)
        self.transformer = nn.Transformer(d_model, nhead, layers, layers, 64, dropout, batch_first=True)
        self.generator = nn.Linear(d_model, VOCAB)

    def encode(self, src):
        x = self.pos(self.src_embed(src) * math.sqrt(self.d_model))
        return self.transformer.encoder(x, src_key_padding_mask=(src == PAD))

    def decode(self, tgt, memory, src):
        mask = torch.triu(torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool), diagonal=1)
        x = self.pos(self.tgt_embed(tgt) * math.sqrt(self.d_model))
        out = self.transformer.decoder(x, memory, tgt_mask=mask, tgt_key_padding_mask=(tgt == PAD), memory_key_padding_mask=(src == PAD))
        return self.generator(out)

    def forward(self, src, tgt):
        return self.decode(tgt, self.encode(src), src)


@torch.no_grad()
def greedy(model, src, max_len=12):
    memory = model.encode(src)
    ys = torch.full((src.size(0), 1), BOS)
    done = torch.zeros(src.size(0), dtype=torch.bool)
    for _ in range(max_len):
        token = model.decode(ys, memory, src)[:, -1].argmax(-1).masked_fill(done, PAD)
        ys = torch.cat([ys, token.unsqueeze(1)], dim=1)
        done |= token == EOS
        if done.all():
            break
    return ys[:, 1:]


@torch.no_grad()
def evaluate(model, loader, criterion):
    model.eval()
    total, tokens, right, rows = 0.0, 0, 0, 0
    for src, tgt in loader:
        logits = model(src, tgt[:, :-1])
        labels = tgt[:, 1:]
        count = (labels != PAD).sum().item()
        total += criterion(logits.reshape(-1, VOCAB), labels.reshape(-1)).item() * count
        tokens += count
        for predicted, wanted in zip(greedy(model, src), labels):
            wanted = wanted[wanted != PAD]
            right += predicted[: len(wanted)].tolist() == wanted.tolist()
            rows += 1
    return total / tokens, right / rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--accum", type=int, default=2)
    parser.add_argument("--warmup", type=int, default=12)
    parser.add_argument("--clip", type=float, default=1.0)
    parser.add_argument("--out", default="out")
    parser.add_argument("--resume", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    os.makedirs(args.out, exist_ok=True)

    train_loader = DataLoader(ReverseDataset(228, args.seed), args.batch_size, shuffle=True, collate_fn=collate)
    valid_loader = DataLoader(ReverseDataset(40, args.seed + 1000), 16, collate_fn=collate)
    model = Seq2Seq()
    decay = [p for p in model.parameters() if p.dim() > 1]
    no_decay = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.98), eps=1e-9)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / args.warmup, math.sqrt(args.warmup / (step + 1)))
    )
    criterion = nn.CrossEntropyLoss(ignore_index=PAD, label_smoothing=0.1)

    start, best, step = 0, float("inf"), 0
    last = os.path.join(args.out, "last.pt")
    if args.resume and os.path.exists(last):
        state = torch.load(last)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        scheduler.load_state_dict(state["scheduler"])
        torch.set_rng_state(state["rng"])
        start, best, step = state["epoch"] + 1, state["best"], state["step"]

    for epoch in range(start, args.epochs):
        model.train()
        running, history = 0.0, []
        optimizer.zero_grad()
        for i, (src, tgt) in enumerate(train_loader):
            logits = model(src, tgt[:, :-1])
            loss = criterion(logits.reshape(-1, VOCAB), tgt[:, 1:].reshape(-1))
            window = min(args.accum, len(train_loader) - i // args.accum * args.accum)
            (loss / window).backward()
            running += loss.item()
            history.append(loss.item())
            if (i + 1) % args.accum == 0 or i + 1 == len(train_loader):
                nn.utils.clip_grad_norm_(model.parameters(), args.clip)
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
                step += 1
        valid_loss, accuracy = evaluate(model, valid_loader, criterion)
        print(f"epoch {epoch} step {step} lr {scheduler.get_last_lr()[0]:.2e} train {running / len(train_loader):.4f} valid {valid_loss:.4f} acc {accuracy:.3f}")
        if valid_loss < best:
            best = valid_loss
            torch.save(model.state_dict(), os.path.join(args.out, "best.pt"))
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scheduler": scheduler.state_dict()}
        state.update(rng=torch.get_rng_state(), epoch=epoch, best=best, step=step)
        torch.save(state, last + ".tmp")
        os.replace(last + ".tmp", last)


if __name__ == "__main__":
    main()
