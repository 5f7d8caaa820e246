"""What is wrong between a PyTorch trainer's data and its loss: told by torch's own functions, named by the judge."""

from __future__ import annotations

import unittest

from .planted import outcome

# By what is wrong: the scenario, the invariant that is printed first, and words of its cause.
WRONG = {
    "shifted-twice": ("data-as-planned", "batch/as-planned", "the tokens 2 ahead"),
    "not-shifted": ("data-as-planned", "batch/as-planned", "learns to copy"),
    "loses-the-end": ("data-as-planned", "batch/as-planned", "loses the last one"),
    "loses-the-beginning": ("data-as-planned", "batch/as-planned", "loses its beginning"),
    "one-order": ("data-as-planned", "order/as-planned", "has the order of epoch 0"),
    "never-shuffled": ("data-as-planned", "order/as-planned", "nothing shuffles it"),
    "bits": ("loss-is-cross-entropy", "loss/is-its-logits", "in bits"),
    "temperature": ("loss-is-cross-entropy", "loss/is-its-logits", "a temperature"),
    "softmax-twice": ("loss-is-cross-entropy", "loss/is-its-logits", "softmax before a loss"),
    "smoothed": ("loss-is-cross-entropy", "loss/is-its-logits", "smoothed labels"),
    "half-the-rate": ("dropout-as-asked", "dropout/as-asked", "not 20.0 %"),
    "inverted": ("dropout-as-asked", "dropout/as-asked", "the share to keep"),
    "seeded-each-time": ("dropout-as-asked", "dropout/as-asked", "in front of each forward"),
    "in-evaluation-mode": ("dropout-as-asked", "dropout/as-asked", "dropout is off in training"),
    "one-seed": ("data-as-planned", "seed/decides", "does not decide the order"),
    "loses-a-batch": ("evaluation-as-planned", "evaluation/whole-set-mean", "not evaluated"),
    "repeats-a-batch": ("evaluation-as-planned", "evaluation/whole-set-mean", "evaluated twice"),
}


class ATrainerThatFollowsAPlan(unittest.TestCase):
    def test_is_held_where_nothing_is_wrong(self) -> None:
        for scenario in sorted({scenario for scenario, _, _ in WRONG.values()}):
            with self.subTest(scenario):
                found = outcome("wrong_forwards", "right", scenario)
                self.assertEqual((found["verdict"], found["findings"]), ("held", []))

    def test_is_broken_with_what_is_wrong(self) -> None:
        for which, (scenario, invariant, cause) in WRONG.items():
            with self.subTest(which):
                first = outcome("wrong_forwards", which, scenario)["findings"][0]
                self.assertEqual(first["invariant"], invariant)
                self.assertIn(cause, first["cause"])


if __name__ == "__main__":
    unittest.main()
