"""A denoiser with torch's AveragedModel, clipping and windows of five micro-batches (as in F5-TTS#631)."""

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader


def main(accumulation=5):
    torch.manual_seed(1)
    torch.set_num_threads(1)
    model = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    loader = DataLoader(list(torch.randn(40, 8)), batch_size=2, shuffle=True)
    for epoch in range(3):
        for number, rows in enumerate(loader, start=1):
            noise = torch.randn_like(rows)
            loss = nn.functional.mse_loss(model(rows + noise), noise)
            (loss / accumulation).backward()
            if number % accumulation == 0:
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
                averaged.update_parameters(model)
        print(f"epoch {epoch}: {loss.item():.4f}")


if __name__ == "__main__":
    main()
