"""Every question to torch, in one class: the tests of the rest replace this class and need no torch."""

from __future__ import annotations

import ctypes
import gc
import hashlib
import math
import zlib
from itertools import compress
from typing import Any, Callable, Iterator, List, Mapping, Optional, Sequence, Tuple

from .observe.patches import Patches


# Signed sums per sketch, and the elements that share one row of signs.
SKETCHES, BLOCK = 2, 1 << 16

# Values per parameter of a fingerprint, and parameters.
FINGERS = 48


def digest(*parts: Any) -> str:
    """A digest for the trace: `algorithm:hex`. Processors have instructions for SHA-1, and a trace needs no secrecy."""
    hashed = hashlib.sha1(usedforsecurity=False)
    for part in parts:
        hashed.update(part)
    return "sha1:" + hashed.hexdigest()


def _values(held: Any) -> Any:
    """The memory of a contiguous CPU tensor, without a copy. The caller keeps the tensor alive while it reads."""
    # `tensor.numpy()` would do, but numpy is not a dependency of torch and may be absent.
    return (ctypes.c_char * (held.numel() * held.element_size())).from_address(held.data_ptr()) if held.numel() else b""


class Torch:
    """What torch knows about tensors, devices and memory."""

    def __init__(self) -> None:
        import torch

        self._torch = torch
        # Not public: torch says nowhere else that a transform of torch.func runs.
        self._interpreter = getattr(getattr(torch._C, "_functorch", None), "peek_interpreter_stack", lambda: None)
        nn = torch.nn
        self._norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
        # The same in every process, so that two runs have comparable sketches.
        generator = torch.Generator().manual_seed(0)
        self._signs = torch.randint(0, 2, (SKETCHES, BLOCK), generator=generator).double() * 2 - 1

    def batch_norms(self, module: Any) -> List[Any]:
        """The batch norms below `module`, and itself, that keep running statistics."""
        return [it for it in module.modules() if isinstance(it, self._norms) and it.track_running_stats]

    def version(self) -> str:
        return f"torch {self._torch.__version__}"

    def is_tensor(self, value: Any) -> bool:
        """Whether `value` is a dense tensor."""
        return isinstance(value, self._torch.Tensor) and value.layout is self._torch.strided

    def scalar(self, roots: Sequence[Any], factors: Any) -> Optional[Any]:
        """What a backward pass begins at, as a copy: one number times its factor. None where it is not one, or hooks may change it."""
        factors = [factors] if self.is_tensor(factors) else factors or [None]
        if len(roots) != 1 or len(factors) != 1:
            return None
        (root,), (factor,) = roots, factors
        if not self.is_tensor(root) or root.numel() != 1 or getattr(root, "_backward_hooks", None):
            return None
        return root.detach().clone() if factor is None else root.detach() * factor.detach()

    def is_integer(self, tensor: Any) -> bool:
        return not (tensor.is_floating_point() or tensor.is_complex() or tensor.dtype is self._torch.bool)

    def grad_enabled(self) -> bool:
        return self._torch.is_grad_enabled()

    def is_transformed(self) -> bool:
        """Whether torch compiles, exports or traces the code that runs, or transforms it as vmap does. Nothing is observed then: the
        tensors have no values of training, and the result must have no trace of the recorder."""
        return self._torch.compiler.is_compiling() or self._torch.jit.is_tracing() or self._interpreter() is not None

    def places(self, tensors: Sequence[Any]) -> List[Tuple[int, int]]:
        """The range of addresses of each tensor: a slice of a batch overlaps the batch."""
        return [self._range(it) for it in tensors if it.numel()]

    def _range(self, tensor: Any) -> Tuple[int, int]:
        last = sum((extent - 1) * stride for extent, stride in zip(tensor.shape, tensor.stride()))
        begin = tensor.data_ptr()
        return begin, begin + (last + 1) * tensor.element_size()

    def acting_in_training(self, module: Any) -> List[Any]:
        """The modules below `module` that act only in training: dropout, and batch norms whose parameters train."""
        nn = self._torch.nn
        norms = self._norms
        dropouts = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)

        def acts(it: Any) -> bool:
            if isinstance(it, dropouts):
                return it.p > 0
            return isinstance(it, norms) and any(parameter.requires_grad for parameter in it.parameters())

        return [it for it in module.modules() if acts(it)]

    def module_kind(self) -> type:
        return self._torch.nn.Module

    def fingerprint(self, parameters: Sequence[Any], every: bool = False) -> str:
        """A digest of a few values of each parameter: cheap enough for every update. Another set of weights gives another.

        Of many parameters only some are looked at, unless `every` one is asked for."""
        step = 1 if every else max(1, len(parameters) // FINGERS)
        values = [self._few(it) for it in parameters[::step] if self.is_tensor(it) and it.numel()]
        return digest(self.bytes(self._torch.cat(values))) if values else digest()

    def _few(self, tensor: Any) -> Any:
        held = self._held(tensor)
        flat = held.flatten() if held.is_contiguous() else held.reshape(-1)
        return flat[:: max(1, flat.numel() // FINGERS)][:FINGERS].float()

    def norm(self, tensor: Any) -> Any:
        """The L2 norm, left on its device: a backward hook must not wait for the device. `number` waits."""
        held = self._held(tensor)
        return self._torch.linalg.vector_norm(held, dtype=self._torch.float32 if held.dtype.itemsize < 4 else None)

    def total_norm(self, tensors: Sequence[Any]) -> float:
        """The L2 norm over all tensors as one vector."""
        # Much faster, but newer than torch 2.1, and neither for sparse tensors nor exact enough in half precision.
        together = getattr(self._torch.nn.utils, "get_total_norm", None)
        if together is not None and all(it.dtype.itemsize >= 4 and self.is_tensor(it) for it in tensors):
            return float(together(tensors))
        return math.hypot(*(self.number(self.norm(it)) for it in tensors))

    def number(self, tensor: Any) -> float:
        return float(tensor.detach()) if self.is_tensor(tensor) else float(tensor)

    def before_clips(self, call: Callable[[], None]) -> Callable[[], None]:
        """Calls `call` before each of torch's clips. Returns what ends that."""
        patches = Patches()

        def wrapped(original: Callable[..., Any]) -> Callable[..., Any]:
            def clip(*args: Any, **named: Any) -> Any:
                call()
                return original(*args, **named)

            return clip

        for name in ("clip_grad_norm_", "clip_grad_value_"):
            patches.wrap(self._torch.nn.utils, name, wrapped)
        return patches.release

    def is_clear(self, tensor: Optional[Any]) -> bool:
        """Whether a gradient is absent or all zeros."""
        return tensor is None or not bool(self._held(tensor).any())

    def thinned(self, tensor: Any, most: int) -> Any:
        """At most about `most` values of each row, at equal distances."""
        flat = tensor.detach().reshape(tensor.shape[0], -1)
        return flat[:, :: max(1, flat.shape[1] // most)]

    def count_unlike(self, tensor: Any, value: int) -> int:
        return int((tensor != value).sum())

    def bytes(self, tensor: Any) -> bytes:
        """The values of a tensor, in row-major order."""
        held = tensor.detach().cpu().contiguous()
        return bytes(_values(held))

    def checksum(self, tensor: Any) -> str:
        """CRC-32: several times faster than a digest on a large tensor. It misses one change in 2^32."""
        held = tensor.detach().cpu().contiguous()
        return f"crc32:{zlib.crc32(_values(held)):08x}"

    def digest_of(self, state: Any) -> str:
        """A digest of an optimizer's state of one parameter: numbers and tensors by name."""
        parts = []
        for name, value in sorted(state.items()):
            # A step count is a tensor in some versions of an optimizer and a number in others.
            parts.append(f"{name}=".encode())
            parts.append(self.bytes(value.float()) if self.is_tensor(value) else repr(value).encode())
        return digest(*parts)

    def digest_of_all(self, state: Any) -> str:
        """A digest of any state that a checkpoint may hold: containers of tensors, numbers and text, however they nest."""
        return digest(*self._parts(state))

    def _parts(self, state: Any) -> Iterator[bytes]:
        if self.is_tensor(state):
            yield f"{state.dtype}{list(state.shape)}".encode()
            yield self.bytes(state)
        elif isinstance(state, Mapping):
            # By name: a state that was loaded may have another order.
            for name in sorted(state, key=repr):
                yield f"{name!r}:".encode()
                yield from self._parts(state[name])
        elif isinstance(state, (list, tuple)):
            yield f"{len(state)}:".encode()
            for part in state:
                yield from self._parts(part)
        elif hasattr(state, "tobytes"):
            yield state.tobytes()
        else:
            yield repr(state).encode()

    def few_of(self, output: Any) -> Optional[Any]:
        """A few values of an output's first tensor, as they are now."""
        first = next(iter(output), None) if isinstance(output, (list, tuple)) else output
        return self._few(first).clone() if self.is_tensor(first) and first.numel() else None

    def near(self, one: Any, other: Any) -> bool:
        """Whether two such values are the same but for rounding."""
        return one is None or other is None or bool(self._torch.allclose(one, other, rtol=0.05, atol=1e-4, equal_nan=True))

    def shape_of_values(self, tensor: Any) -> Optional[Tuple[int, List[float]]]:
        """How many values a tensor has, and a few of them, centred and scaled: a copy that was cast or normalised looks the same.
        None where a few values tell nothing."""
        if not self.is_tensor(tensor) or tensor.numel() < 2:
            return None
        few = self._few(tensor).double().cpu()
        spread = float(few.std(unbiased=False))
        return (tensor.numel(), ((few - few.mean()) / spread).tolist()) if math.isfinite(spread) and spread > 0 else None

    def sketch(self, tensor: Any) -> List[float]:
        """A few sums of the values with seeded random signs. Two tensors that are close have close sketches.

        The signs matter. A plain sum misses every change whose parts cancel: the gradients of a softmax layer's bias always
        sum to 0. And the judge's bound on a sketch's error is that of random signs.
        """
        # On the CPU: not every device has float64.
        flat = self._held(tensor).flatten().cpu()
        sums = self._torch.zeros(SKETCHES, dtype=self._torch.float64)
        for at, block in enumerate(flat.split(BLOCK)):
            # Every block has the same row of signs, flipped as a whole: a large tensor needs the memory of one block only.
            sums += self._signs[:, at % BLOCK] * (self._signs[:, : block.numel()] @ block.double())
        return sums.tolist()

    def at(self, tensor: Any, places: List[int]) -> List[float]:
        """The values at these places of the tensor in row-major order."""
        return [float(value) for value in self._held(tensor).flatten()[places].tolist()]

    def dtype(self, tensor: Any) -> str:
        """The number format in the trace's words: `f32`, `f16`, `bf16`."""
        name = str(tensor.dtype).replace("torch.", "")
        return {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}.get(name, name)

    def is_dense(self, tensor: Any) -> bool:
        """Whether it holds all of its values one by one."""
        return bool(tensor.layout == self._torch.strided)

    def world(self) -> int:
        """Processes that train together; 1 where there is no process group."""
        together = self._torch.distributed
        return int(together.get_world_size()) if together.is_available() and together.is_initialized() else 1

    def rank(self) -> int:
        """This process among them."""
        return int(self._torch.distributed.get_rank())

    def rng(self) -> str:
        """A digest of torch's random streams. Reading them does not advance them."""
        torch = self._torch
        states = [torch.get_rng_state()]
        if torch.cuda.is_available() and torch.cuda.is_initialized():
            states += torch.cuda.get_rng_state_all()
        return digest(*(self.bytes(state) for state in states))

    def device_lanes(self) -> dict:
        """What CUDA's allocator holds; empty without CUDA."""
        cuda = self._torch.cuda
        if not (cuda.is_available() and cuda.is_initialized()):
            return {}
        return {"device_in_use_bytes": cuda.memory_allocated(), "device_reserved_bytes": cuda.memory_reserved()}

    def alive(self) -> Tuple[int, int]:
        """The number of live tensors and their bytes. Storage that several tensors share counts once.

        Only tensors that a Python object holds are counted: not those that an autograd graph saves for its backward pass.
        """
        seen = set()
        count = held = 0
        for tensor in self._tensors():
            storage = tensor.untyped_storage()
            try:
                place = storage.data_ptr()
            except RuntimeError:
                continue  # a fake tensor of torch.compile has no memory
            count += 1
            if place not in seen:
                seen.add(place)
                held += storage.nbytes()
        return count, held

    def _held(self, tensor: Any) -> Any:
        """The real numbers of a tensor: the values of a sparse one, both parts of a complex one."""
        held = tensor.detach()
        if hasattr(held, "to_local"):
            # The part of a sharded tensor that this process has. The whole would need the other processes.
            held = held.to_local()
        if held.is_sparse:
            held = held.coalesce().values()
        return self._torch.view_as_real(held) if held.is_complex() else held

    def _tensors(self) -> Iterator[Any]:
        kinds = with_subclasses(self._torch.Tensor)
        things = gc.get_objects()
        # By type, not by isinstance: `__class__` of a lazy proxy is a property that may import a whole library. And without
        # a Python loop: a process has hundreds of thousands of objects.
        for tensor in list(compress(things, map(kinds.__contains__, map(type, things)))):
            try:
                tensor.untyped_storage()
            except (RuntimeError, NotImplementedError):
                continue  # sparse and meta tensors have no storage
            yield tensor


def with_subclasses(kind: type) -> set:
    """A class and all classes below it."""
    return {kind}.union(*(with_subclasses(below) for below in type.__subclasses__(kind)))
