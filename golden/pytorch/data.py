"""A plan's samples as padded rows, rebuilt from the words that describe them and not from the trainer's code.

Every sample gives an anchor row; under a contrastive head also a positive and a negative one, all anchors first. A positive
is the anchor with its text turned by one place, a negative is it backwards; the first and the last token stay.
"""

from dataclasses import dataclass

import torch

IGNORED = -100


@dataclass
class Batch:
    """The rows of one forward, `[rows, width]`, and what the anchors are to predict, `[anchors, width]`."""

    ids: torch.Tensor
    real: torch.Tensor
    positions: torch.Tensor
    targets: torch.Tensor

    @property
    def anchors(self) -> int:
        return self.targets.shape[0]

    @property
    def target_count(self) -> int:
        """Supervised positions."""
        return int((self.targets != IGNORED).sum())

    @property
    def sample_count(self) -> int:
        """Samples with at least one token."""
        return int(self.real[: self.anchors].any(dim=1).sum())


def cut(sample: list[int], most: int) -> list[int]:
    """Truncation keeps the last token."""
    return sample if len(sample) <= most else sample[: most - 1] + sample[-1:]


def positive(row: list[int]) -> list[int]:
    return row if len(row) < 3 else [row[0], *row[2:-1], row[1], row[-1]]


def negative(row: list[int]) -> list[int]:
    return row if len(row) < 3 else [row[0], *reversed(row[1:-1]), row[-1]]


def collate(plan: dict, samples: list[int]) -> Batch:
    data, padding = plan["data"], plan["data"]["padding"]
    anchors = [cut(data["samples"][at], data["max_length"]) for at in samples]
    rows = list(anchors)
    if plan["train"]["heads"]:
        rows += [positive(row) for row in anchors] + [negative(row) for row in anchors]
    longest = max(1, *(len(row) for row in rows))
    width = -(-longest // padding["multiple_of"]) * padding["multiple_of"]
    ids = torch.full((len(rows), width), data["tokens"]["pad"])
    real = torch.zeros(len(rows), width, dtype=torch.bool)
    for at, row in enumerate(rows):
        first = width - len(row) if padding["side"] == "left" else 0
        ids[at, first : first + len(row)] = torch.tensor(row, dtype=ids.dtype)
        real[at, first : first + len(row)] = True
    positions = (real.cumsum(dim=1) - 1).clamp(min=0)
    follows = torch.zeros_like(real)
    follows[:, :-1] = real[:, :-1] & real[:, 1:]
    targets = torch.where(follows, ids.roll(-1, dims=1), IGNORED)[: len(anchors)]
    return Batch(ids, real, positions, targets)


def windows(plan: dict) -> list[list[Batch]]:
    """The accumulation windows of the whole training, in order: a window that an epoch's end leaves open is an update."""
    data, each = plan["data"], plan["train"]["accumulation"]
    count = len(data["samples"])
    epoch = [list(range(at, min(at + data["batch"], count))) for at in range(0, count, data["batch"])]
    one = [[collate(plan, samples) for samples in epoch[at : at + each]] for at in range(0, len(epoch), each)]
    return one * data["epochs"]
