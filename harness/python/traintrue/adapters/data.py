"""The plan's samples as batches."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

import torch

from ..batches import IGNORED

Batch = Dict[str, torch.Tensor]

# What a target is: the convention `targets`.
NEXT_TOKENS, TOKENS, SAMPLES = "next-tokens", "tokens", "samples"


class Samples(torch.utils.data.Dataset):
    """Samples of a plan, each with its id. A sample that is too long is cut, and keeps its last token."""

    def __init__(self, plan: Dict[str, Any], name: str = "samples") -> None:
        longest = plan["data"]["max_length"]
        self._samples = [_cut(sample, longest) for sample in plan["data"].get(name, [])]

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, at: int) -> Dict[str, Any]:
        return {"id": at, "tokens": self._samples[at]}


class Collator:
    """Pads samples to rows of one width: input ids, attention mask, labels, and the ids of the samples."""

    def __init__(self, plan: Dict[str, Any], padding: Any = None) -> None:
        self._padding = padding or plan["data"]["padding"]
        self._max_length = plan["data"]["max_length"]
        self._pad = plan["data"]["tokens"]["pad"]

    def __call__(self, samples: Sequence[Dict[str, Any]]) -> Batch:
        rows = [sample["tokens"] for sample in samples]
        width = self._width(max(len(row) for row in rows))
        left = self._padding["side"] == "left"

        def padded(row: List[int], filler: int) -> List[int]:
            fill = [filler] * (width - len(row))
            return fill + row if left else row + fill

        return {
            "input_ids": torch.tensor([padded(row, self._pad) for row in rows]),
            "attention_mask": torch.tensor([padded([1] * len(row), 0) for row in rows]),
            # A row's first token has no context and no label. With left padding it would be predicted from a pad.
            "labels": torch.tensor([padded([IGNORED] * min(len(row), 1) + row[1:], IGNORED) for row in rows]),
            "ids": torch.tensor([sample["id"] for sample in samples]),
        }

    def _width(self, longest: int) -> int:
        width = self._max_length if self._padding["policy"] == "max_length" else max(longest, 1)
        multiple = max(self._padding["multiple_of"], 1)
        return -(-width // multiple) * multiple


def order(plan: Dict[str, Any], epoch: int) -> List[List[int]]:
    """The sample ids of each micro-batch on this rank. The order depends on seed and epoch alone: a resume recomputes it."""
    data, train = plan["data"], plan["train"]
    ids = list(range(len(data["samples"])))
    if data["shuffle"]:
        generator = torch.Generator().manual_seed((plan["seed"] * 1_000_003 + epoch) % 2**63)
        ids = torch.randperm(len(ids), generator=generator).tolist()
    size = data["batch"]
    groups = [ids[at : at + size] for at in range(0, len(ids), size)]
    if data["drop_last"] and groups and len(groups[-1]) < size:
        groups.pop()
    world = train.get("world", 1)
    # Every rank has the same number of micro-batches: the rest of the division is left out.
    return groups[train.get("rank", 0) : len(groups) // world * world : world]


def targets(batch: Batch, counted: str = NEXT_TOKENS) -> int:
    """What the losses of a batch are divided by, as the convention `targets` counts it."""
    if counted == NEXT_TOKENS:
        return int((batch["labels"] != IGNORED).sum())
    lengths = batch["attention_mask"].sum(1)
    return int((lengths > 0).sum() if counted == SAMPLES else lengths.sum())


def targets_of(length: int, counted: str) -> int:
    """The same of one sample of this many tokens."""
    return {NEXT_TOKENS: max(length - 1, 0), TOKENS: length, SAMPLES: min(length, 1)}[counted]


def _cut(sample: List[int], longest: int) -> List[int]:
    return sample if len(sample) <= longest else sample[: longest - 1] + sample[-1:]
