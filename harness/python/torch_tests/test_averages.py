"""Averages (EMA) that loops keep beside their models: found, however they are kept, and counted as often as they move within a window."""

from __future__ import annotations

import copy
import gc
import io
import json
import unittest
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

import torch
import torch._dynamo  # Imported while a session is attached, it would keep that session alive, and its parameters.
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from traintrue.observe.attach import attach
from traintrue.observe.averages import MOST
from traintrue.observe.cut import Cut
from traintrue.observe.session import Session

UPDATES, DECAY = 4, 0.9
Script = Callable[[nn.Module, Any], Any]


class Net(nn.Module):
    """Names and shapes as no other test has them: averages are looked for in the whole process."""

    def __init__(self) -> None:
        super().__init__()
        self.narrow, self.wide = nn.Linear(5, 7), nn.Linear(7, 3)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return self.wide(torch.tanh(self.narrow(inputs)))


class Keeper:
    """An object of the script that keeps tensors by name."""

    def __init__(self, held: Dict[str, torch.Tensor]) -> None:
        self.held = held


class Wrapper(nn.Module):
    """As timm's ModelEmaV3: the copy is below `module`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.module = copy.deepcopy(model).requires_grad_(False)


def recorded(run: Callable[[], Any], cut: Optional[Cut] = None) -> List[Dict[str, Any]]:
    """The events of a recording of `run`. What it returns stays alive until the end."""
    gc.collect()
    trace, text = io.StringIO(), []
    trace.close = lambda: text.append(trace.getvalue())
    session = Session(lambda: trace, {}, cut=cut)
    patches = attach(session)
    try:
        kept = run()
        session.close()
        del kept
    finally:
        patches.release()
    events = [json.loads(line) for line in "".join(text).splitlines()]
    if events[-1].get("trouble"):
        raise AssertionError(events[-1]["trouble"])
    return events


def moves(script: Script, make: Callable[[], nn.Module] = Net) -> List[Optional[int]]:
    """Of each update of a script, how often an average moved within its window; None where there is no average."""

    def run() -> Any:
        torch.manual_seed(0)
        model = make()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, script(model, optimizer)

    return [it["since"].get("averaged") for it in recorded(run) if it["event"] == "update"]


def train(model: nn.Module, optimizer: Any, inside: Any = lambda: None, after: Any = lambda: None, window: int = 2) -> None:
    """`inside` is called after each micro-batch, and `after` after each update."""
    for _ in range(UPDATES):
        for _ in range(window):
            model(torch.randn(4, 5)).pow(2).mean().backward()
            inside()
        optimizer.step()
        optimizer.zero_grad()
        after()


def clones(model: nn.Module) -> Dict[str, torch.Tensor]:
    return {name: it.detach().clone() for name, it in model.named_parameters()}


def lerp(average: Dict[str, torch.Tensor], model: nn.Module) -> None:
    for name, it in model.named_parameters():
        average[name].data.lerp_(it.detach(), 1 - DECAY)


def replace(keeper: Keeper, model: nn.Module) -> None:
    keeper.held = {name: DECAY * keeper.held[name] + (1 - DECAY) * it.detach() for name, it in model.named_parameters()}


def lerp_at_once(average: nn.Module, model: nn.Module) -> None:
    torch._foreach_lerp_(list(average.parameters()), [it.detach() for it in model.parameters()], 1 - DECAY)


# By name: what makes the average, and what moves it.
AVERAGES: Dict[str, Tuple[Callable[[nn.Module], Any], Callable[[Any, nn.Module], Any]]] = {
    "AveragedModel": (lambda model: AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(DECAY)), lambda it, model: it.update_parameters(model)),
    "copy": (copy.deepcopy, lambda it, model: lerp(dict(it.named_parameters()), model)),
    "all at once": (lambda model: copy.deepcopy(model).requires_grad_(False), lerp_at_once),
    "below module": (Wrapper, lambda it, model: lerp(dict(it.module.named_parameters()), model)),
    "dictionary": (lambda model: Keeper(clones(model)), lambda it, model: lerp(it.held, model)),
    "dictionary anew": (lambda model: Keeper(clones(model)), replace),
    "other names": (
        lambda model: Keeper({f"module.{name}": it for name, it in clones(model).items()}),
        lambda it, model: lerp({name[len("module.") :]: held for name, held in it.held.items()}, model),
    ),
    "list": (
        lambda model: [it.detach().clone() for it in model.parameters()],
        lambda it, model: [held.lerp_(mine.detach(), 1 - DECAY) for held, mine in zip(it, model.parameters())],
    ),
    "dictionary of nobody": (clones, lerp),
    "more in it": (lambda model: Keeper({**clones(model), "count": torch.zeros(())}), lambda it, model: lerp(it.held, model)),
}


def averaging(name: str, when: str, window: int = 2) -> Script:
    make, move = AVERAGES[name]

    def script(model: nn.Module, optimizer: Any) -> Any:
        average = make(model)
        train(model, optimizer, **{when: lambda: move(average, model)}, window=window)
        return average

    return script


def copied_now_and_then(model: nn.Module, optimizer: Any) -> Any:
    """As DQN's target: a hard copy at every fifth micro-batch."""
    target, batches = copy.deepcopy(model), iter(range(1, 100))
    train(model, optimizer, inside=lambda: next(batches) % 5 or target.load_state_dict(model.state_dict()))
    return target


def teacher(model: nn.Module, optimizer: Any) -> Any:
    frozen = copy.deepcopy(model).requires_grad_(False)
    train(model, optimizer, inside=lambda: frozen(torch.randn(4, 5)))
    return frozen


def best_weights(model: nn.Module, optimizer: Any) -> Any:
    keeper = Keeper(clones(model))
    train(model, optimizer, after=lambda: vars(keeper).update(held=clones(model)))
    return keeper


def own_moments(model: nn.Module, optimizer: Any) -> Any:
    keeper = Keeper({name: torch.zeros_like(it) for name, it in model.named_parameters()})
    train(model, optimizer, after=lambda: [it.add_(1.0) for it in keeper.held.values()])
    return keeper


def swapped_for_an_evaluation(model: nn.Module, optimizer: Any) -> Any:
    average = copy.deepcopy(model)

    def swap() -> None:
        for mine, it in zip(average.parameters(), model.parameters()):
            mine.data, it.data = it.data, mine.data

    def evaluate() -> None:
        swap()
        with torch.no_grad():
            model(torch.randn(4, 5))
        swap()

    train(model, optimizer, inside=evaluate, after=lambda: lerp(dict(average.named_parameters()), model))
    return average


def two_periods(model: nn.Module, _optimizer: Any) -> Any:
    """A second optimizer steps with every second update of the first, and keeps gradients that the first never clears."""
    often, seldom = torch.optim.SGD(model.narrow.parameters(), lr=0.1), torch.optim.SGD(model.wide.parameters(), lr=0.1)
    average, updates = copy.deepcopy(model), iter(range(1, 100))

    def after() -> None:
        lerp(dict(average.named_parameters()), model)
        if next(updates) % 2 == 0:
            seldom.step()
            seldom.zero_grad()

    train(model, often, after=after)
    return average


def the_parameters_by_name(model: nn.Module, optimizer: Any) -> Any:
    keeper = Keeper(dict(model.named_parameters()))
    train(model, optimizer)
    return keeper


def another_head(model: nn.Module, optimizer: Any) -> Any:
    other = copy.deepcopy(model)
    other.wide = nn.Linear(7, 4)
    train(model, optimizer, inside=lambda: other.narrow.weight.data.add_(1.0))
    return other


# By script, the moves of its updates: those of what moves as the script needs it, and None for what does not look like an average.
RIGHT: Dict[Script, List[Optional[int]]] = {
    **dict.fromkeys((copied_now_and_then, teacher, best_weights, own_moments, swapped_for_an_evaluation), [0] * UPDATES),
    two_periods: [0] * (UPDATES + UPDATES // 2),
    **dict.fromkeys((train, the_parameters_by_name, another_head), [None] * UPDATES),
}


def evaluated(average: Callable[[nn.Module], Any], move: Callable[[Any, nn.Module], Any], whole: bool = False) -> Script:
    """Evaluates what `average` makes after every second update; with `whole`, the model too."""

    def script(model: nn.Module, optimizer: Any) -> Any:
        held, updates = average(model), iter(range(1, 100))

        def after() -> None:
            move(held, model)
            if next(updates) % 2 == 0:
                with torch.no_grad():
                    for it in (held, model) if whole else (held,):
                        it(torch.randn(4, 5))

        train(model, optimizer, after=after)
        return held

    return script


def nothing(_average: Any, _model: nn.Module) -> None:
    pass


def unmoved(script: Script) -> Optional[int]:
    """After how many updates a copy was evaluated that never moved."""

    def run() -> Any:
        torch.manual_seed(0)
        model = Net()
        optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
        return model, optimizer, script(model, optimizer)

    return recorded(run)[-1].get("unmoved")


class ACopyThatIsEvaluated(unittest.TestCase):
    def test_in_the_place_of_the_model_and_never_moves_is_told(self) -> None:
        self.assertEqual(unmoved(evaluated(copy.deepcopy, nothing)), UPDATES // 2)
        self.assertEqual(unmoved(evaluated(AveragedModel, nothing)), UPDATES // 2)
        # It is averaged with itself.
        self.assertEqual(unmoved(evaluated(AveragedModel, lambda it, _: it.update_parameters(it.module))), UPDATES // 2)

    def test_and_moves_is_right(self) -> None:
        self.assertIsNone(unmoved(evaluated(copy.deepcopy, lambda it, model: lerp(dict(it.named_parameters()), model))))

    def test_beside_the_model_may_be_a_reference(self) -> None:
        self.assertIsNone(unmoved(evaluated(copy.deepcopy, nothing, whole=True)))

    def test_at_every_micro_batch_is_a_teacher(self) -> None:
        def script(model: nn.Module, optimizer: Any) -> Any:
            frozen = copy.deepcopy(model)

            def teach() -> None:
                with torch.no_grad():
                    frozen(torch.randn(4, 5))

            train(model, optimizer, inside=teach)
            return frozen

        self.assertIsNone(unmoved(script))


class AnAverage(unittest.TestCase):
    def test_that_moves_with_each_update_never_moves_within_a_window(self) -> None:
        for name in AVERAGES:
            with self.subTest(name):
                self.assertEqual(moves(averaging(name, "after")), [0] * UPDATES)

    def test_that_moves_with_each_micro_batch_is_counted_between_those_of_a_window(self) -> None:
        for name in AVERAGES:
            for window in (1, 3):
                with self.subTest(name, window=window):
                    # In the first window an average that moves towards weights that are its own stays where it is.
                    self.assertEqual(moves(averaging(name, "inside", window))[1:], [window - 1] * (UPDATES - 1))

    def test_is_not_what_else_a_right_script_keeps(self) -> None:
        for script, expected in RIGHT.items():
            with self.subTest(script.__name__):
                self.assertEqual(moves(script), expected)

    def test_may_hold_more_than_what_trains_and_be_one_of_several_copies(self) -> None:
        def script(model: nn.Module, _optimizer: Any) -> Any:
            model.narrow.requires_grad_(False)
            copies = [copy.deepcopy(model) for _ in range(MOST)]
            train(model, torch.optim.SGD(model.wide.parameters(), lr=0.1), inside=lambda: lerp(dict(copies[-1].named_parameters()), model))
            return copies

        self.assertEqual(moves(script)[1:], [1] * (UPDATES - 1))

    def test_is_not_kept_alive(self) -> None:
        gone: List[bool] = []

        def script(model: nn.Module, optimizer: Any) -> None:
            kept = [copy.deepcopy(model)]
            reference = weakref.ref(kept[0])
            train(model, optimizer, after=lambda: (kept.clear(), gc.collect(), gone.append(reference() is None)))

        self.assertEqual(moves(script), [0] + [None] * (UPDATES - 1))
        self.assertEqual(gone, [True] * UPDATES)

    def test_of_a_single_tensor_is_not_looked_for(self) -> None:
        self.assertEqual(moves(averaging("copy", "inside"), lambda: nn.Linear(5, 3, bias=False)), [None] * UPDATES)


if __name__ == "__main__":
    unittest.main()
