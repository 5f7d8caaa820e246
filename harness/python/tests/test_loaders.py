"""Loaders, watched while a loop iterates over them."""

from __future__ import annotations

import unittest
from typing import Any, List, Optional

from traintrue.loaders import WatchedLoader

from .fakes import Loader


class Listener:
    def __init__(self) -> None:
        self.heard: List[Any] = []

    def epoch_begins(self) -> None:
        self.heard.append("begins")

    def epoch_ends(self) -> None:
        self.heard.append("ends")

    def batch_yielded(self, batch: Any, samples: Optional[List[int]]) -> None:
        self.heard.append(samples)


class ALoader(unittest.TestCase):
    def test_tells_of_its_epochs_and_of_the_samples_of_each_batch(self) -> None:
        listener, loader = Listener(), Loader(samples=3)
        WatchedLoader(loader, listener)
        list(loader)
        self.assertEqual(listener.heard, ["begins", [0, 1], [2], "ends"])

    def test_that_fetches_ahead_tells_of_the_batch_that_is_drawn(self) -> None:
        class Ahead(Loader):
            def __iter__(self) -> Any:
                return iter(list(super().__iter__()))

        listener, loader = Listener(), Ahead(samples=4)
        WatchedLoader(loader, listener)
        list(loader)
        self.assertEqual(listener.heard, ["begins", [0, 1], [2, 3], "ends"])

    def test_that_is_left_early_has_no_end(self) -> None:
        listener, loader = Listener(), Loader()
        WatchedLoader(loader, listener)
        next(iter(loader))
        self.assertEqual(listener.heard, ["begins", [0, 1]])

    def test_that_draws_with_replacement_has_no_ids(self) -> None:
        listener, loader = Listener(), Loader(samples=2)
        loader.batch_sampler.sampler.replacement = True
        WatchedLoader(loader, listener)
        list(loader)
        self.assertEqual(listener.heard, ["begins", None, "ends"])

    def test_is_what_it_was_after_its_release(self) -> None:
        listener, loader = Listener(), Loader()
        WatchedLoader(loader, listener).release()
        list(loader)
        self.assertEqual((listener.heard, type(loader)), ([], Loader))


if __name__ == "__main__":
    unittest.main()
