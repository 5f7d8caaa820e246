"""What is left out of a kept result where the traces are more than a folder may take."""

import importlib.util
import io
import json
import os
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

PLACE = Path(__file__).resolve().parents[1] / "tools" / "keep_results.py"
SPEC = importlib.util.spec_from_file_location("keep_results", PLACE)
keep_results = importlib.util.module_from_spec(SPEC)
sys.modules[SPEC.name] = keep_results
SPEC.loader.exec_module(keep_results)

# Of each run, in bytes that do not compress.
SIZES = {"broken": 9000, "quoted": 8000, "needed": 7000, "large": 6000, "small": 500, "again-again-1": 9000}
QUOTE = "`seam/identical` in cuts, run quoted, line 4:"


def judged(traces):
    """A scenario that one run breaks and another one compares something in."""
    names = {trace.stem for trace in traces}
    return "broken" if "broken" in names else "held", set(), names & {"needed"}


class Fitted(unittest.TestCase):
    """The archive of a scenario called cuts."""

    def setUp(self):
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.folder = Path(scratch.name) / "cuts"
        self.folder.mkdir()
        for name, size in SIZES.items():
            text = json.dumps({"run": name, "noise": os.urandom(size).hex()})
            (self.folder / f"{name}.jsonl").write_text(text + "\n")
        self.traces = keep_results.traces_of(self.folder)

    def fitted(self, most):
        """The names in the archive, and the runs that are left out."""
        with mock.patch.object(keep_results, "ARCHIVE_MOST", most):
            archive, left_out = keep_results.fitted(self.traces, QUOTE, judged)
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            return {Path(name).stem for name in tar.getnames()}, [run for _, run in left_out]

    def test_everything_that_fits_is_kept_but_for_repeats(self):
        names, left_out = self.fitted(1 << 20)
        self.assertEqual((names, left_out), ({"broken", "quoted", "needed", "large", "small"}, []))

    def test_the_largest_run_that_no_verdict_rests_on_is_left_out_first(self):
        names, left_out = self.fitted(30_000)
        self.assertEqual((names, left_out), ({"broken", "quoted", "needed", "small"}, ["large"]))

    def test_what_a_verdict_or_the_page_rests_on_stays_where_it_does_not_fit(self):
        names, left_out = self.fitted(1)
        self.assertEqual((names, left_out), ({"broken", "quoted", "needed"}, ["large", "small"]))

    def test_the_same_traces_give_the_same_archive(self):
        self.assertEqual(keep_results.packed(self.traces), keep_results.packed(self.traces))


if __name__ == "__main__":
    unittest.main()
