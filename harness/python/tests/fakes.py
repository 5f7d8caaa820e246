"""Stand-ins for torch's classes with the hooks that the recorder uses, so that its tests need no torch."""

from __future__ import annotations

import itertools
import math
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

from traintrue.tensors import digest


class Handle:
    def __init__(self, hooks: List[Any], hook: Any) -> None:
        self._hooks, self._hook = hooks, hook
        hooks.append(hook)

    def remove(self) -> None:
        self._hooks.remove(self._hook)


class Tensor:
    """A few numbers in a row, or rows of them."""

    dtype = "f32"

    def __init__(self, values: List[Any]) -> None:
        self.values = values

    @property
    def shape(self) -> Tuple[int, ...]:
        if self.values and isinstance(self.values[0], list):
            return (len(self.values), len(self.values[0]))
        return (len(self.values),)

    def numel(self) -> int:
        return math.prod(self.shape)

    def __getitem__(self, at: int) -> "Tensor":
        value = self.values[at]
        return Tensor(value if isinstance(value, list) else [value])

    def detach(self) -> "Tensor":
        return self


class Parameter(Tensor):
    def __init__(self, values: List[float], requires_grad: bool = True) -> None:
        super().__init__(values)
        self.requires_grad = requires_grad
        self.grad: Optional[Tensor] = None
        self.before: List[Callable] = []
        self.after: List[Callable] = []

    def register_hook(self, hook: Callable) -> Handle:
        return Handle(self.before, hook)

    def register_post_accumulate_grad_hook(self, hook: Callable) -> Handle:
        return Handle(self.after, hook)

    def backward(self, gradient: List[float]) -> None:
        """What autograd does with a leaf: run the hooks, add the gradient, run the post-accumulate hooks."""
        for hook in self.before:
            hook(Tensor(gradient))
        held = self.grad.values if self.grad is not None else [0.0] * len(gradient)
        self.grad = Tensor([a + b for a, b in zip(held, gradient)])
        for hook in self.after:
            hook(self)


class Model:
    """Two parameters, one of which may be frozen. In training mode a forward advances the stream of `dropout`."""

    def __init__(self, frozen: bool = False) -> None:
        self.training = True
        self.dropout: Optional[Tensors] = None
        self.parameters = {"weight": Parameter([1.0, 2.0]), "bias": Parameter([0.5], requires_grad=not frozen)}
        self.pre: List[Callable] = []
        self.post: List[Callable] = []

    def named_parameters(self) -> Iterator[Tuple[str, Parameter]]:
        return iter(self.parameters.items())

    def register_forward_pre_hook(self, hook: Callable) -> Handle:
        return Handle(self.pre, hook)

    def register_forward_hook(self, hook: Callable) -> Handle:
        return Handle(self.post, hook)

    def __call__(self, batch: Any, loss: float = 1.0) -> Dict[str, Tensor]:
        for hook in self.pre:
            hook(self, (batch,))
        if self.training and self.dropout is not None:
            self.dropout.stream += 1
        output = {"loss": Tensor([loss])}
        for hook in self.post:
            hook(self, (batch,), output)
        return output

    def backward(self) -> None:
        for parameter in self.parameters.values():
            if parameter.requires_grad:
                parameter.backward([1.0] * len(parameter.values))


class Optimizer:
    def __init__(self, parameters: List[Parameter], lr: float = 0.1) -> None:
        self.param_groups = [{"params": parameters, "lr": lr, "betas": (0.9, 0.999), "eps": 1e-8}]
        self.pre: List[Callable] = []
        self.post: List[Callable] = []

    def register_step_pre_hook(self, hook: Callable) -> Handle:
        return Handle(self.pre, hook)

    def register_step_post_hook(self, hook: Callable) -> Handle:
        return Handle(self.post, hook)

    def step(self, *closure: Callable[[], None]) -> None:
        for hook in self.pre:
            hook(self, (self, *closure), {})
        for make in closure:
            make()
        group = self.param_groups[0]
        for parameter in group["params"]:
            if parameter.grad is not None:
                pairs = zip(parameter.values, parameter.grad.values)
                parameter.values = [value - group["lr"] * gradient for value, gradient in pairs]
        for hook in self.post:
            hook(self, (self, *closure), {})

    def zero_grad(self) -> None:
        for parameter in self.param_groups[0]["params"]:
            parameter.grad = None


class Scaler:
    """A GradScaler that skips the steps in `overflows`, counted from 0."""

    def __init__(self, overflows: Tuple[int, ...]) -> None:
        self.overflows, self.steps, self.scale = overflows, 0, 1.0

    def get_scale(self) -> float:
        return self.scale

    def step(self, optimizer: Optimizer) -> None:
        if self.steps not in self.overflows:
            optimizer.step()
        self.steps += 1


class SequentialSampler:
    def __init__(self, samples: int) -> None:
        self.data_source = range(samples)

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(self.data_source)


class BatchSampler:
    def __init__(self, sampler: SequentialSampler, batch_size: int) -> None:
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, False

    def __iter__(self) -> Iterator[List[int]]:
        indices = iter(self.sampler)
        while group := list(itertools.islice(indices, self.batch_size)):
            yield group


class Loader:
    """A loader over `samples` rows of two tokens."""

    def __init__(self, samples: int = 5, batch: int = 2) -> None:
        self.batch_sampler = BatchSampler(SequentialSampler(samples), batch)

    def __iter__(self) -> Iterator[Dict[str, Tensor]]:
        for indices in self.batch_sampler:
            yield {"input_ids": Tensor([[at, at + 1] for at in indices])}


class Stream:
    """A loader without a sampler, whose samples have no indices."""

    def __init__(self, batches: List[Tensor]) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.batches)


class Tensors:
    """The methods of `traintrue.tensors.Torch`, for the stand-ins."""

    def __init__(self) -> None:
        self.enabled = True
        self.stream = 0

    def version(self) -> str:
        return "fake 1"

    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def is_integer(self, tensor: Tensor) -> bool:
        return all(isinstance(value, int) for row in tensor.values for value in (row if isinstance(row, list) else [row]))

    def grad_enabled(self) -> bool:
        return self.enabled

    def norm(self, tensor: Tensor) -> float:
        return math.sqrt(sum(value * value for value in tensor.values))

    def total_norm(self, tensors: List[Tensor]) -> float:
        return math.sqrt(sum(self.norm(it) ** 2 for it in tensors))

    def number(self, value: Any) -> float:
        return float(value.values[0] if isinstance(value, Tensor) else value)

    def is_clear(self, tensor: Optional[Tensor]) -> bool:
        return tensor is None or not any(tensor.values)

    def count_unlike(self, tensor: Tensor, value: int) -> int:
        return sum(it != value for row in tensor.values for it in row)

    def bytes(self, tensor: Tensor) -> bytes:
        return repr(tensor.values).encode()

    def checksum(self, tensor: Tensor) -> str:
        return digest(self.bytes(tensor))

    def sketch(self, tensor: Tensor) -> List[float]:
        return [sum(tensor.values)]

    def dtype(self, tensor: Tensor) -> str:
        return tensor.dtype

    def rng(self) -> str:
        return digest(str(self.stream).encode())

    def device_lanes(self) -> dict:
        return {}

    def alive(self) -> Tuple[int, int]:
        return 2, 16
