"""Records a PyTorch training loop as a trace, for the command `traintrue` to judge.

    with traintrue.record("run.jsonl", model, optimizer, loader, epochs=3, accumulation=4):
        train(model, optimizer, loader)  # your loop, unchanged

    with traintrue.held(model, optimizer, loader, epochs=3, accumulation=4):
        train(model, optimizer, loader)  # the same in a test, which fails where the loop is broken
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import schedules as schedules
    from .command import CommandError as CommandError, NotHeld as NotHeld
    from .recorder import Recorder as Recorder, record as record
    from .testing import NotJudgedWarning as NotJudgedWarning, held as held

__version__ = "0.1.0"
__all__ = ["CommandError", "NotHeld", "NotJudgedWarning", "Recorder", "held", "record", "schedules", "__version__"]

# The module of each name. Imported when it is asked for: every Python process of a recorded command imports this package.
_MODULES = {
    "CommandError": "command",
    "NotHeld": "command",
    "NotJudgedWarning": "testing",
    "Recorder": "recorder",
    "held": "testing",
    "record": "recorder",
}


def __getattr__(name: str) -> Any:
    if name == "schedules":
        return import_module(".schedules", __name__)
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULES[name]}", __name__), name)


_notebooks = {}


def load_ipython_extension(shell):
    """`%load_ext traintrue`."""
    from .notebook import Notebook

    _notebooks[shell] = Notebook(shell)


def unload_ipython_extension(shell):
    """`%unload_ext traintrue`."""
    _notebooks.pop(shell).close()
