"""All that the recorder asks of torch, in one place: its own logic can be tested without."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import math
import zlib
from itertools import compress
from typing import Any, Iterator, Optional, Sequence, Tuple


def digest(*parts: Any) -> str:
    """A digest as a trace has it: `algorithm:hex`, opaque. Processors help with SHA-1, and nobody forges a trace."""
    hashed = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        hashed.update(part)
    return "sha1:" + hashed.hexdigest()


def _values(held: Any) -> Any:
    """The memory of a tensor that lies in one piece, for as long as it is held."""
    # Not every build of torch has numpy, which is the only other way to the values without a copy an element.
    return (ctypes.c_char * (held.numel() * held.element_size())).from_address(held.data_ptr()) if held.numel() else b""


class Torch:
    """What torch knows about tensors, devices and memory."""

    def __init__(self) -> None:
        import torch

        self._torch = torch

    def version(self) -> str:
        return f"torch {self._torch.__version__}"

    def is_tensor(self, value: Any) -> bool:
        """Whether it is a tensor whose values lie row by row."""
        return isinstance(value, self._torch.Tensor) and value.layout is self._torch.strided

    def is_integer(self, tensor: Any) -> bool:
        return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is self._torch.bool)

    def grad_enabled(self) -> bool:
        return self._torch.is_grad_enabled()

    def norm(self, tensor: Any) -> Any:
        """The L2 norm, still on its device: `number` waits for it."""
        held = self._held(tensor)
        return self._torch.linalg.vector_norm(held, dtype=self._torch.float32 if held.dtype.itemsize < 4 else None)

    def total_norm(self, tensors: Sequence[Any]) -> float:
        """Of all of them as one."""
        together = getattr(self._torch.nn.utils, "get_total_norm", None)
        if together is not None and all(it.dtype.itemsize >= 4 and self.is_tensor(it) for it in tensors):
            return float(together(tensors))
        return math.sqrt(sum(self.number(self.norm(it)) ** 2 for it in tensors))

    def number(self, tensor: Any) -> float:
        return float(tensor.detach()) if self.is_tensor(tensor) else float(tensor)

    def is_clear(self, tensor: Optional[Any]) -> bool:
        """Whether a gradient holds nothing."""
        return tensor is None or not bool(self._held(tensor).any())

    def count_unlike(self, tensor: Any, value: int) -> int:
        return int((tensor != value).sum())

    def bytes(self, tensor: Any) -> bytes:
        """The values of a tensor, row by row."""
        held = tensor.detach().cpu().contiguous()
        return bytes(_values(held))

    def checksum(self, tensor: Any) -> str:
        """Of a large tensor, a few times faster than a digest; a change is missed once in four thousand million."""
        held = tensor.detach().cpu().contiguous()
        return f"crc32:{zlib.crc32(_values(held)):08x}"

    def total(self, tensor: Any) -> float:
        held = self._held(tensor)
        return float(held.sum(dtype=self._torch.float32 if held.dtype.itemsize < 4 else None))

    def dtype(self, tensor: Any) -> str:
        """The number format as a trace has it."""
        name = str(tensor.dtype).replace("torch.", "")
        return {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(name, name)

    def rng(self) -> str:
        """A digest of torch's random streams; reading them changes nothing."""
        torch = self._torch
        states = [torch.get_rng_state()]
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states += torch.cuda.get_rng_state_all()
        return digest(*(self.bytes(state) for state in states))

    def device_lanes(self) -> dict:
        """What CUDA's allocator holds; nothing where there is no CUDA."""
        cuda = self._torch.cuda
        if not (cuda.is_available() and cuda.is_initialized()):
            return {}
        return {"device_in_use_bytes": cuda.memory_allocated(), "device_reserved_bytes": cuda.memory_reserved()}

    def alive(self) -> Tuple[int, int]:
        """Tensors that Python objects hold, and their bytes; storage that several share counts once.

        Tensors that only C++ holds, such as those that a graph keeps for its backward pass, are not seen.
        """
        seen = set()
        count = held = 0
        for tensor in self._tensors():
            storage = tensor.untyped_storage()
            try:
                place = storage.data_ptr()
            except RuntimeError:
                continue  # one that a compiler only reasons about
            count += 1
            if place not in seen:
                seen.add(place)
                held += storage.nbytes()
        return count, held

    def _held(self, tensor: Any) -> Any:
        """The real numbers that a tensor holds, in whatever form."""
        held = tensor.detach()
        if held.is_sparse:
            held = held.coalesce().values()
        return self._torch.view_as_real(held) if held.is_complex() else held

    def _tensors(self) -> Iterator[Any]:
        kinds = _with_subclasses(self._torch.Tensor)
        things = gc.get_objects()
        # By type and not by isinstance: a proxy's `__class__` is a property that may run anything. And without a step of
        # Python's own a thing: a process has hundreds of thousands.
        for tensor in list(compress(things, map(kinds.__contains__, map(type, things)))):
            try:
                tensor.untyped_storage()
            except (RuntimeError, NotImplementedError):
                continue  # sparse and meta tensors have no storage
            yield tensor


def _with_subclasses(kind: type) -> set:
    return {kind}.union(*(_with_subclasses(below) for below in type.__subclasses__(kind)))
