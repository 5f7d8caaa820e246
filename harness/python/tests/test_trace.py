"""The lines of a trace."""

from __future__ import annotations

import io
import unittest

from traintrue.trace import Writer, number


class ALine(unittest.TestCase):
    def test_has_numbers_that_are_not_finite_as_words(self) -> None:
        self.assertEqual([number(value) for value in (1.5, float("nan"), float("-inf"))], [1.5, "nan", "-inf"])

    def test_has_no_field_that_is_not_known(self) -> None:
        to = io.StringIO()
        Writer(to).event("update", step=1, grad_norm=None)
        self.assertEqual(to.getvalue(), '{"event":"update","step":1}\n')

    def test_has_words_for_numbers_that_nobody_looked_at(self) -> None:
        to = io.StringIO()
        Writer(to).event("probe", rows=[{"loss": float("nan"), "logits": (1.0, float("-inf"))}], name="one")
        self.assertEqual(to.getvalue(), '{"event":"probe","rows":[{"loss":"nan","logits":[1.0,"-inf"]}],"name":"one"}\n')

    def test_that_is_held_back_comes_after_the_one_that_it_waits_for(self) -> None:
        to = io.StringIO()
        writer = Writer(to)
        writer.hold()
        writer.event("update")
        later = writer.release()
        writer.event("micro_batch")
        writer.write_held(later)
        self.assertEqual(to.getvalue(), '{"event":"micro_batch"}\n{"event":"update"}\n')


if __name__ == "__main__":
    unittest.main()
