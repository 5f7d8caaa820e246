"""A LightningModule, with accumulation and clipping by the Trainer."""

import sys
import warnings

import lightning
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

warnings.filterwarnings("ignore")


class Regression(lightning.LightningModule):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))

    def training_step(self, batch, _index):
        return nn.functional.mse_loss(self.net(batch[0]), batch[1])

    def validation_step(self, batch, _index):
        self.log("error", nn.functional.mse_loss(self.net(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.AdamW(self.net.parameters(), lr=1e-2)
        scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=15)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


lightning.seed_everything(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
inputs = torch.randn(46, 8)
targets = inputs.sum(1, keepdim=True)
train = DataLoader(TensorDataset(inputs[:38], targets[:38]), batch_size=2, shuffle=True)
held_out = DataLoader(TensorDataset(inputs[38:], targets[38:]), batch_size=4)
trainer = lightning.Trainer(
    max_epochs=3,
    accumulate_grad_batches=4,
    gradient_clip_val=0.5,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Regression(), train, held_out)
