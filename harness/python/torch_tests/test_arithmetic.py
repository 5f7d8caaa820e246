"""Optimizers that are not the plan's, in PyTorch: the judge makes their steps again, and names what they do."""

from __future__ import annotations

import unittest

from .planted import outcome

# By optimizer, words of the cause.
CAUSES = {
    "sgd": "plain SGD",
    "adam": "L2, as in Adam",
    "betas-swapped": "beta1 and beta2 are swapped",
    "another-eps": "eps is 0.001",
    "vectors-decay": "vectors decay",
    "nothing-decays": "nothing decays",
    "decay-twice": "applied twice",
}


class AnOptimizerThatFollowsAPlan(unittest.TestCase):
    def test_is_held_where_it_is_the_plans(self) -> None:
        found = outcome("wrong_optimizers", "right", "optimizer-arithmetic")
        self.assertEqual((found["verdict"], found["findings"]), ("held", []))

    def test_is_broken_with_what_it_does_where_it_is_another(self) -> None:
        for which, cause in CAUSES.items():
            with self.subTest(which):
                findings = outcome("wrong_optimizers", which, "optimizer-arithmetic")["findings"]
                self.assertEqual([it["invariant"] for it in findings], ["update/replayed"])
                self.assertIn(cause, findings[0]["cause"])


if __name__ == "__main__":
    unittest.main()
