"""A small convolutional network with batch norm and dropout, a rate that falls per epoch, and an average of the weights."""

import sys

import torch
from torch import nn
from torch.nn import functional
from torch.optim import swa_utils
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6)
        self.drop, self.out = nn.Dropout(0.25), nn.Linear(6 * 9, 3)

    def forward(self, image):
        image = functional.max_pool2d(functional.relu(self.norm(self.conv(image))), 2)
        return functional.log_softmax(self.out(self.drop(image.flatten(1))), dim=1)


class Average:
    def __init__(self, model, decay):
        self.decay, self.shadow, self.kept = decay, [it.detach().clone() for it in model.parameters()], []

    def update(self, model):
        for mean, now in zip(self.shadow, model.parameters()):
            mean.mul_(self.decay).add_(now.detach(), alpha=1 - self.decay)

    def swap_in(self, model):
        self.kept = [it.detach().clone() for it in model.parameters()]
        for now, mean in zip(model.parameters(), self.shadow):
            now.data.copy_(mean)

    def swap_out(self, model):
        for now, kept in zip(model.parameters(), self.kept):
            now.data.copy_(kept)


def train(model, loader, optimizer, average):
    model.train()
    for image, label in loader:
        optimizer.zero_grad()
        loss = functional.nll_loss(model(image), label)
        loss.backward()
        optimizer.step()
        average.update(model)


def test(model, loader, average):
    average.swap_in(model)
    model.eval()
    right = 0
    with torch.no_grad():
        for image, label in loader:
            right += (model(image).argmax(1) == label).sum().item()
    average.swap_out(model)
    print(f"{right} of {len(loader.dataset)} right")


def main():
    torch.manual_seed(int(sys.argv[1]) if len(sys.argv) > 1 else 0)
    images = torch.randn(60, 1, 8, 8)
    labels = (images.mean((1, 2, 3)) * 20).round().clamp(-1, 1).long() + 1
    loader = DataLoader(TensorDataset(images[:44], labels[:44]), batch_size=8, shuffle=True)
    held_out = DataLoader(TensorDataset(images[44:], labels[44:]), batch_size=16)
    model = Net()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = StepLR(optimizer, step_size=1, gamma=0.7)
    average = Average(model, 0.9)
    for _ in range(4):
        train(model, loader, optimizer, average)
        # The statistics of the batch norm, measured anew.
        swa_utils.update_bn(DataLoader(loader.dataset, batch_size=22), model)
        test(model, held_out, average)
        scheduler.step()


if __name__ == "__main__":
    main()
