"""pytest: the marker `traintrue_memory`, and findings as JUnit properties and GitHub annotations. torch is not imported here."""

from __future__ import annotations

import contextlib
import importlib.util
import inspect
import os
from typing import Any, Iterator, Optional

import pytest

from .command import CommandError, NotHeld, nothing
from .growth import growth
from .testing import Trial, tell

MARKER, ARGUMENTS = "traintrue_memory", inspect.signature(growth)
USE = f"{MARKER}(max_slope, lanes=None)"
# The properties of a test in JUnit XML; one pair per finding.
RULE, CAUSE = "traintrue_rule", "traintrue_cause"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f'{USE}: memory grows by at most max_slope per optimizer step, such as "64KiB/step"')


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Any:
    """A marker with wrong arguments is an error of the file that has it."""
    report = yield
    for it in report.result or []:
        try:
            _limit(it)
        except (TypeError, ValueError) as error:
            report.outcome, report.result = "failed", []
            report.longrepr = f"{it.nodeid}: {MARKER}: {error}"
            break
    return report


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtest_call(item: pytest.Item) -> Any:
    """Records the test function, and holds its memory."""
    trial = _limit(item)
    if trial is None:
        return (yield)
    if importlib.util.find_spec("torch") is None:
        # The test may skip itself.
        yield
        with _failing():
            raise nothing("memory", "torch is not installed")
    with _failing():
        trial.begin()
    try:
        result = yield
    except BaseException as error:
        trial.give_up(error)
        raise
    with _failing():
        tell(trial.judge(), item.warn)
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
    """The findings of `held` and of the marker, as properties: they come from pytest-xdist's workers with the report."""
    report = yield
    error = None if call.excinfo is None else call.excinfo.value
    if isinstance(error, pytest.fail.Exception):
        error = error.__context__
    if isinstance(error, NotHeld):
        # Of the item too: JUnit XML takes the properties from the report of the teardown.
        item.user_properties.extend(pair for rule, cause in error.findings for pair in ((RULE, rule), (CAUSE, cause)))
        report.user_properties = list(item.user_properties)
    return report


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Prints the annotations for GitHub."""
    if not os.environ.get("GITHUB_ACTIONS"):
        return
    reports = [report for outcome in ("failed", "error") for report in terminalreporter.getreports(outcome)]
    lines = (line for report in reports if isinstance(report, pytest.TestReport) for line in _annotations(report, config))
    # A test that fails again in its teardown has the same findings twice.
    for line in dict.fromkeys(lines):
        terminalreporter.ensure_newline()
        terminalreporter.write_line(line)


def _limit(item: Any) -> Optional[Trial]:
    """What the marker of a test asks for."""
    marker = item.get_closest_marker(MARKER) if isinstance(item, pytest.Item) else None
    if marker is None:
        return None
    try:
        ARGUMENTS.bind(*marker.args, **marker.kwargs)
    except TypeError as error:
        raise TypeError(f"{error}; expected {USE}") from None
    return growth(*marker.args, **marker.kwargs)


@contextlib.contextmanager
def _failing() -> Iterator[None]:
    try:
        yield
    except (NotHeld, CommandError) as error:
        # pytest prints the message alone: no line of the test is to blame.
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def _annotations(report: pytest.TestReport, config: pytest.Config) -> Iterator[str]:
    told = [value for name, value in report.user_properties if name in (RULE, CAUSE)]
    file, line, _ = report.location
    file = os.path.relpath(config.rootpath / file, os.environ.get("GITHUB_WORKSPACE") or os.getcwd())
    for rule, cause in zip(told[::2], told[1::2]):
        yield f"::error file={_property(file)},line={(line or 0) + 1},title={_property(rule)}::{_escaped(cause)}"


def _escaped(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _escaped(text).replace(":", "%3A").replace(",", "%2C")
