"""Adapter folders written by PEFT from a model that trains a little: `python -m torch_tests.adapter_folders FOLDER`.

`untrained`, `early` and `late` are from one run with rsLoRA and a head in `modules_to_save`. `head-frozen` continues from
`early` with a frozen head. `alpha-below-r` is from another run.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict

import torch

from traintrue.adapters import hf_model

LORA = {"r": 4, "alpha": 16, "rs": True, "targets": ["q", "v"]}
BELOW = {"r": 8, "alpha": 2.0, "rs": False, "targets": ["q", "k", "v", "o", "up", "down"]}


def built(adapters: Dict[str, Any], saved: Any = None) -> Any:
    """A model of a few thousand parameters."""
    tokens = {"vocabulary": 32, "pad": 3, "bos": 1, "eos": 2}
    data = {"tokens": tokens, "max_length": 16}
    train = {"adapters": adapters, "heads": ["projection"]}
    return hf_model.build({"seed": 7, "data": data, "train": train, "model": {"size": "tiny"}}, saved)


def train(model: Any, updates: int) -> None:
    """A few updates on one batch."""
    optimizer = torch.optim.AdamW([it for it in model.parameters() if it.requires_grad], lr=1e-2)
    ids = torch.randint(4, 32, (4, 12), generator=torch.Generator().manual_seed(1))
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    for _ in range(updates):
        model(**batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def main(folder: Path) -> None:
    """Trains, and saves the folders."""
    torch.set_num_threads(1)
    model = built(LORA)
    for name, updates in (("untrained", 0), ("early", 3), ("late", 3)):
        train(model, updates)
        model.save_pretrained(str(folder / name))
    model = built(LORA, folder / "early")
    for name, it in model.named_parameters():
        if "projection" in name:
            it.requires_grad_(False)
    train(model, 3)
    model.save_pretrained(str(folder / "head-frozen"))
    model = built(BELOW)
    train(model, 3)
    model.save_pretrained(str(folder / "alpha-below-r"))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
