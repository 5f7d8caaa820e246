"""A warm-up and a cosine of transformers over the updates of a run (as in CodefyUI#205)."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from transformers import get_cosine_schedule_with_warmup


def main(epochs=3):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    inputs = torch.randn(40, 8)
    loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=2, num_training_steps=epochs * len(loader))
    for epoch in range(epochs):
        for batch, labels in loader:
            loss = nn.functional.cross_entropy(model(batch), labels)
            loss.backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        print(f"epoch {epoch}: {loss.item():.4f}, {scheduler.get_last_lr()}")


if __name__ == "__main__":
    main()
