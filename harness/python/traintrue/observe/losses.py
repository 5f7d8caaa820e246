"""The losses of a micro-batch: what torch's loss functions returned, or the model's output."""

from __future__ import annotations

import inspect
from collections import deque
from typing import Any, Callable, Deque, Dict, List, Mapping, Optional, Tuple

from .patches import Patches

# The loss functions of `torch.nn.functional`; the modules of `torch.nn` call them.
FUNCTIONS = (
    "cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss", "l1_loss",
    "smooth_l1_loss", "huber_loss", "kl_div", "poisson_nll_loss", "gaussian_nll_loss", "ctc_loss",
)  # fmt: skip

# Of an evaluation, at most so many batches' losses are kept.
EVALUATED_MOST = 4096

# A mean loss and 1, or a sum and the number of targets that divides it.
Loss = Tuple[Any, float]


class Losses:
    """The losses since the last backward pass. They stay tensors, so that nothing here waits for a device."""

    def __init__(self, tensors: Any, guard: Callable[..., Any]) -> None:
        self._tensors, self._guard = tensors, guard
        self._inside = False
        self._found: List[Loss] = []
        # Targets of the losses since the last backward pass, where a loss function says which it leaves out.
        self._targets_seen: Optional[int] = None
        self._output: Optional[Any] = None
        self._evaluated: Deque[Any] = deque(maxlen=EVALUATED_MOST)

    def watch(self, patches: Patches, functional: Any) -> None:
        """Wraps torch's loss functions."""
        for name in FUNCTIONS:
            patches.wrap(functional, name, self._watched)

    def output(self, output: Any) -> None:
        """A forward has this output: its `loss` counts where no loss function was seen."""
        self._output = loss_of(output, self._tensors)

    def told(self, value: Any) -> None:
        """The loop itself says what the loss is."""
        self._found = [(value, 1.0)]

    def take(self) -> List[Loss]:
        """The losses since the last call."""
        self._targets_seen = None
        found = self._found or ([(self._output, 1.0)] if self._output is not None else [])
        self._found, self._output = [], None
        return found

    def has_no_targets(self) -> bool:
        """Whether every position of every loss since the last backward pass is one that its function leaves out."""
        return self._targets_seen == 0

    def take_evaluated(self) -> List[Any]:
        """The mean losses of an evaluation since the last call."""
        found = list(self._evaluated)
        self._evaluated.clear()
        return found

    def _watched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        signature = inspect.signature(original)

        def function(*args: Any, **named: Any) -> Any:
            # One loss function may call another: only the outer one is the script's.
            if self._tensors.is_transformed() or self._inside:
                return original(*args, **named)
            self._inside = True
            try:
                result = original(*args, **named)
            finally:
                self._inside = False
            self._guard(self._seen, signature, args, named, result)
            return result

        return function

    def _seen(self, signature: inspect.Signature, args: Any, named: Mapping[str, Any], result: Any) -> None:
        if not self._tensors.is_tensor(result) or result.numel() != 1:
            return
        if not self._tensors.grad_enabled():
            if signature.bind(*args, **named).arguments.get("reduction", "mean") == "mean":
                self._evaluated.append(copied(result))
            return
        given = signature.bind(*args, **named)
        given.apply_defaults()
        how: Dict[str, Any] = given.arguments
        weight = 1.0 if how.get("reduction", "mean") != "sum" else self._targets(how)
        # A long evaluation with gradients must not pile up losses.
        self._found = [*self._found[-15:], (copied(result), weight)]

    def _targets(self, how: Mapping[str, Any]) -> float:
        target, ignored = how.get("target"), how.get("ignore_index")
        if target is None:
            return 1.0
        if ignored is not None and self._tensors.is_integer(target):
            count = self._tensors.count_unlike(target, ignored)
            self._targets_seen = count + (self._targets_seen or 0)
            return float(max(1, count))
        return float(max(1, target.numel()))


def loss_of(output: Any, tensors: Any) -> Optional[Any]:
    """The loss in a model's output: `output.loss`, `output["loss"]`, or the output itself if it is one number."""
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if found is None and tensors.is_tensor(output) and len(output.shape) == 0:
        found = output
    if not tensors.is_tensor(found) or found.numel() != 1:
        return None
    return copied(found)


def copied(value: Any) -> Any:
    """One number as it is now: `loss /= accumulation` changes it in place. Without its graph, which holds the step's activations."""
    return value.detach().clone()
