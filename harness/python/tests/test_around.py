"""Whether an evaluation is blamed for other parameters."""

from __future__ import annotations

import unittest

from traintrue.observe.around import Around


class AnEvaluation(unittest.TestCase):
    def setUp(self) -> None:
        self.weights = "a"
        self.around = Around(lambda: self.weights)

    def update(self, weights: str) -> None:
        self.weights = weights
        self.around.updated()

    def steady(self) -> None:
        self.update("a")
        self.assertIsNone(self.around.training_forward())
        self.update("b")

    def test_that_leaves_the_parameters_changes_nothing(self) -> None:
        self.steady()
        self.around.evaluated()
        self.assertIs(self.around.training_forward(), False)

    def test_that_leaves_an_average_in_their_place_is_seen(self) -> None:
        self.steady()
        self.weights = "average"
        self.around.evaluated()
        self.assertIs(self.around.training_forward(), True)

    def test_that_swaps_the_average_out_again_changes_nothing(self) -> None:
        self.steady()
        self.weights = "average"
        self.around.evaluated()
        self.weights = "b"
        self.assertIs(self.around.training_forward(), False)

    def test_is_not_blamed_for_a_loop_that_moves_parameters_itself(self) -> None:
        self.update("a")
        self.weights = "clamped"
        self.assertIsNone(self.around.training_forward())
        self.update("b")
        self.weights = "clamped too"
        self.around.evaluated()
        self.assertIsNone(self.around.training_forward())

    def test_is_not_blamed_for_a_checkpoint_that_was_loaded(self) -> None:
        self.steady()
        self.weights = "loaded"
        self.around.forget()
        self.around.evaluated()
        self.assertIsNone(self.around.training_forward())

    def test_before_anything_else_was_seen_is_not_judged(self) -> None:
        self.update("a")
        self.weights = "average"
        self.around.evaluated()
        self.assertIsNone(self.around.training_forward())


if __name__ == "__main__":
    unittest.main()
