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


if __name__ == "__main__":
    unittest.main()
