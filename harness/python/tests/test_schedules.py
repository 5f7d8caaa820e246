"""The schedules that a user may declare, without torch."""

from __future__ import annotations

import unittest
from typing import Any, List

from traintrue import schedules
from traintrue.declared import checked, recorded_facts
from traintrue.observe.rates import Rates


class Optimizer:
    """An optimizer with a group per rate."""

    def __init__(self, *rates: float) -> None:
        self.param_groups = [{"lr": rate, "params": [object()]} for rate in rates]


def rates(schedule: Any, updates: int, peak: float = 1.0) -> List[float]:
    made = schedules.declared(schedule)
    return [round(made.rates(update, [peak])[0], 4) for update in range(updates)]


class AForm(unittest.TestCase):
    def test_has_the_rates_of_its_formula(self) -> None:
        table = [
            (schedules.constant(warmup=2), [0, 0.5, 1, 1]),
            (schedules.constant(warmup=2, rising="(u+1)/W"), [0.5, 1, 1, 1]),
            (schedules.constant(warmup=2, rising="(u+1)/(W+1)"), [0.3333, 0.6667, 1, 1]),
            (schedules.linear(updates=4), [1, 0.75, 0.5, 0.25, 0, 0]),
            (schedules.linear(updates=4, warmup=2, minimum=0.5), [0, 0.5, 1, 0.75, 0.5, 0.5]),
            (schedules.polynomial(updates=4, power=2), [1, 0.5625, 0.25, 0.0625, 0]),
            (schedules.cosine(updates=4, minimum=0.1), [1, 0.8682, 0.55, 0.2318, 0.1, 0.1]),
            (schedules.inverse_sqrt(warmup=1), [0, 1, 0.7071, 0.5774]),
            (schedules.wsd(updates=6, decay=2, warmup=2), [0, 0.5, 1, 1, 1, 0.5, 0]),
        ]
        for form, expected in table:
            with self.subTest(form.words):
                self.assertEqual(rates(form, len(expected)), expected)

    def test_multiplies_the_rate_of_each_group(self) -> None:
        declared, optimizer = Rates(schedules.linear(updates=4)), Optimizer(0.1, 0.4)
        declared.optimizer_made(optimizer)
        # A loop sets its rates before the first update.
        optimizer.param_groups[0]["lr"] = 0.0
        declared.of(optimizer, applied=True)
        self.assertEqual(declared.of(optimizer, applied=True), [0.75 * 0.1, 0.75 * 0.4])

    def test_counts_no_update_that_was_skipped(self) -> None:
        declared, optimizer = Rates(schedules.linear(updates=4)), Optimizer(1.0)
        declared.optimizer_made(optimizer)
        found = [declared.of(optimizer, applied) for applied in (True, False, True)]
        self.assertEqual(found, [[1.0], [0.75], [0.75]])

    def test_refuses_parameters_that_contradict_each_other(self) -> None:
        for make in (
            lambda: schedules.cosine(updates=2, warmup=2),
            lambda: schedules.wsd(updates=4, decay=4, warmup=1),
            lambda: schedules.constant(warmup=2, rising="W"),
            lambda: schedules.inverse_sqrt(warmup=0),
        ):
            self.assertRaisesRegex(ValueError, "expected", make)

    def test_that_begins_at_0_by_hand_tells_of_no_peak(self) -> None:
        for rates_of_groups, peak in (((0.0,), None), ((0.1,), 0.1), ((0.1, 0.2), None)):
            facts = recorded_facts({}, None, Optimizer(*rates_of_groups), [], None)
            self.assertEqual(facts.get("lr"), peak)


class ADeclaredSchedule(unittest.TestCase):
    def test_may_be_a_function_a_list_or_a_form_by_name(self) -> None:
        named = {"name": "linear", "updates": 4, "warmup": 0, "rising": "u/W", "minimum": 0.0}
        for schedule in (lambda update: 1 - update / 4, [1, 0.75, 0.5, 0.25], named):
            self.assertEqual(rates(schedule, 4), [1, 0.75, 0.5, 0.25])

    def test_that_is_a_list_ends(self) -> None:
        self.assertIsNone(schedules.declared([1.0]).rates(1, [1.0]))

    def test_may_have_a_rate_for_each_group_and_no_other_number_of_them(self) -> None:
        made = schedules.declared(lambda update: [1.0, 2.0])
        self.assertEqual(made.rates(0, [1.0, 1.0]), [1.0, 2.0])
        self.assertRaisesRegex(ValueError, "2 rates, expected one, or 3", made.rates, 0, [1.0, 1.0, 1.0])

    def test_that_is_none_of_these_is_refused(self) -> None:
        for schedule in (3, {"name": "cosin"}, {"name": "linear", "warmpu": 1}):
            self.assertRaises(ValueError, checked, {"schedule": schedule})


if __name__ == "__main__":
    unittest.main()
