"""Batches of loaders and the forwards that consume them, over stand-ins for torch's classes."""

from __future__ import annotations

import itertools
import pickle
import unittest
from typing import Any, Iterator, List, Optional, Tuple

from traintrue.observe.draws import Draws, Iteration, order
from traintrue.observe.patches import Guard


class Tensor:
    """A tensor of `rows` rows; a copy is at another place."""

    places = itertools.count(0, 100)

    def __init__(self, rows: int, look: Optional[float] = None) -> None:
        self.shape, self.place, self.look = (rows, 4), next(self.places), look


class Tensors:
    def is_tensor(self, value: Any) -> bool:
        return isinstance(value, Tensor)

    def is_integer(self, _tensor: Tensor) -> bool:
        return False

    def places(self, tensors: List[Tensor]) -> List[Tuple[int, int]]:
        return [(it.place, it.place + 10) for it in tensors]

    def shape_of_values(self, tensor: Tensor) -> Optional[Tuple[int, List[float]]]:
        return None if tensor.look is None else (tensor.shape[0], [tensor.look])

    def thinned(self, tensor: Tensor, _most: int) -> List[bytes]:
        return [b"%d" % row for row in range(tensor.shape[0])]

    def bytes(self, row: bytes) -> bytes:
        return row


class RandomSampler:
    data_source = range(6)

    def __init__(self, order: Tuple[int, ...] = (0, 1, 2, 3, 4, 5)) -> None:
        self.order = order

    def __iter__(self) -> Iterator[int]:
        return iter(self.order)

    def __len__(self) -> int:
        return len(self.order)


class BatchSampler:
    batch_size, drop_last = 2, False

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[List[int]]:
        indices = list(self.sampler)
        return iter([indices[at : at + 2] for at in range(0, len(indices), 2)])


class Loader:
    num_workers, batch_size = 0, 2

    def __init__(self, sampler: Any = None) -> None:
        self.dataset = RandomSampler.data_source
        self.batch_sampler = BatchSampler(sampler or RandomSampler())

    def __len__(self) -> int:
        return 3

    def __iter__(self) -> Iterator[Tensor]:
        return (Tensor(len(indices)) for indices in self.batch_sampler)


def watched(draws: Draws, loader: Loader) -> Iteration:
    known = draws.begins(loader)
    return Iteration(iter(loader), known, draws)


class Forwards(unittest.TestCase):
    def setUp(self) -> None:
        self.guard = Guard()
        self.draws = Draws(Tensors(), self.guard, contents=False)

    def tearDown(self) -> None:
        self.assertEqual(self.guard.trouble(), [])

    def samples(self, given: Any, **how: bool) -> Any:
        found = self.draws.match(given, **{"training": True, "first": True, **how})
        return None if found is None else found.samples

    def test_consume_the_batch_whose_tensors_they_are_given(self) -> None:
        batches = list(watched(self.draws, Loader()))
        self.assertEqual([self.samples([it]) for it in reversed(batches)], [[4, 5], [2, 3], [0, 1]])

    def test_on_copies_consume_the_oldest_batch(self) -> None:
        list(watched(self.draws, Loader()))
        self.assertEqual([self.samples([Tensor(2)]) for _ in range(3)], [[0, 1], [2, 3], [4, 5]])

    def test_on_copies_consume_the_batch_that_looks_the_same_where_others_were_skipped(self) -> None:
        for look, batch in enumerate(watched(self.draws, Loader())):
            batch.look = float(look)
            self.draws._recent[-1].waiting[-1].looks = [(2, [batch.look])]
        self.assertEqual(self.samples([Tensor(2, 2.01)]), [4, 5])
        self.assertEqual(self.samples([Tensor(2, 7.0)]), [0, 1], "of one that looks like none, nothing is known")

    def test_of_one_micro_batch_consume_one_batch(self) -> None:
        list(watched(self.draws, Loader()))
        self.assertEqual(self.samples([Tensor(2)]), [0, 1])
        self.assertIsNone(self.samples([Tensor(2)], first=False))
        self.assertEqual(self.samples([Tensor(2)]), [2, 3])

    def test_of_an_evaluation_leave_the_batch_that_was_fetched_ahead(self) -> None:
        train, held_out = watched(self.draws, Loader()), watched(self.draws, Loader())
        next(train)
        self.assertEqual(self.samples([Tensor(2)]), [0, 1])
        next(train)
        next(held_out)
        self.assertEqual(self.samples([Tensor(2)], training=False), [0, 1])
        self.assertEqual(self.samples([Tensor(2)]), [2, 3])

    def test_end_an_epoch_when_the_last_batch_is_trained_on(self) -> None:
        loader = Loader()
        batches = watched(self.draws, loader)
        known = self.draws.begins(loader)
        for batch in list(batches):
            self.assertFalse(known.over())
            self.samples([batch])
        self.assertTrue(known.over())

    def test_may_come_from_a_loader_that_is_made_anew_for_each_epoch(self) -> None:
        epochs = []
        for _ in range(2):
            for batch in watched(self.draws, Loader()):
                found = self.draws.match([batch], training=True, first=True)
                epochs.append((found.loader.number, found.epoch))
        self.assertEqual(epochs, [(0, 0)] * 3 + [(0, 1)] * 3)


class ASampler(unittest.TestCase):
    def test_is_known_by_its_order(self) -> None:
        class SequentialSampler(RandomSampler):
            pass

        class Mine(RandomSampler):
            replacement = True

        orders = [(RandomSampler(), "shuffled"), (Mine(), "other"), (RandomSampler((0, 1)), "other"), (object(), "other"), (None, None)]
        for sampler, expected in orders:
            with self.subTest(type(sampler).__name__):
                self.assertEqual(order(sampler), expected)
        self.assertEqual(order(type("SequentialSampler", (), {})()), "sequential")

    def test_is_pickled_as_it_is_without_a_recorder(self) -> None:
        loader = Loader()
        draws = Draws(Tensors(), Guard(), contents=False)
        draws.begins(loader)
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            made = pickle.loads(pickle.dumps(loader.batch_sampler, protocol))
            self.assertIs(type(made), BatchSampler)
            self.assertEqual(list(made), list(loader.batch_sampler))


if __name__ == "__main__":
    unittest.main()
