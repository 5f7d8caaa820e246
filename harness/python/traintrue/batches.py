"""Describes a batch of any loader: its size, and an id per row."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Mapping, Optional

# The default `ignore_index` of torch's cross entropy.
IGNORED = -100

# A row is known by at most so many of its values per tensor.
ROW_VALUES = 512


def describe(batch: Any, tensors: Any) -> Dict[str, int]:
    """`rows`, `width`, `tokens` and `targets` of a micro-batch event; a field that the batch does not show is absent."""
    fields = batch if isinstance(batch, Mapping) else {}
    main = fields.get("input_ids")
    if not tensors.is_tensor(main):
        main = next(iter(tensors_of(batch, tensors)), None)
    seen: Dict[str, int] = {}
    if main is None or len(main.shape) == 0:
        return seen
    seen["rows"] = int(main.shape[0])
    if len(main.shape) == 2 and tensors.is_integer(main):
        seen["width"] = int(main.shape[1])
    mask, labels = fields.get("attention_mask"), fields.get("labels")
    if tensors.is_tensor(mask):
        seen["tokens"] = tensors.count_unlike(mask, 0)
    if tensors.is_tensor(labels) and tensors.is_integer(labels) and len(labels.shape) == 2:
        seen["targets"] = tensors.count_unlike(labels, IGNORED)
    return seen


def content_ids(batch: Any, tensors: Any) -> Optional[List[int]]:
    """An id per row: a hash of the row's values, so that equal rows have equal ids in every run."""
    found = [tensor for tensor in tensors_of(batch, tensors) if len(tensor.shape) > 0]
    if not found:
        return None
    rows = int(found[0].shape[0])
    parts = [tensor for tensor in found if int(tensor.shape[0]) == rows]
    ids = []
    # A batch of images would take longer to hash than to train on: of a large row, every n-th value.
    parts = [tensors.thinned(part, ROW_VALUES) for part in parts]
    for row in range(rows):
        hashed = hashlib.blake2b(digest_size=8)
        for part in parts:
            hashed.update(tensors.bytes(part[row]))
        # 53 bits: JSON readers that parse numbers as doubles keep them exact.
        ids.append(int.from_bytes(hashed.digest(), "little") >> 11)
    return ids


def tensors_of(batch: Any, tensors: Any) -> List[Any]:
    """All tensors of a batch, however it nests them."""
    if tensors.is_tensor(batch):
        return [batch]
    if isinstance(batch, Mapping):
        batch = list(batch.values())
    if isinstance(batch, (list, tuple)):
        return [tensor for part in batch for tensor in tensors_of(part, tensors)]
    return []
