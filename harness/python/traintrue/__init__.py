"""Records a PyTorch training loop as a trace, for the command `traintrue` to judge.

    with traintrue.record("run.jsonl", model, optimizer, loader, epochs=3, accumulation=4):
        train(model, optimizer, loader)  # your loop, unchanged

    with traintrue.held(model, optimizer, loader, epochs=3, accumulation=4):
        train(model, optimizer, loader)  # the same in a test, which fails where the loop is broken
"""

from . import schedules
from .command import CommandError, NotHeld
from .recorder import Recorder, record
from .testing import NotJudgedWarning, held

__version__ = "0.1.0"
__all__ = ["CommandError", "NotHeld", "NotJudgedWarning", "Recorder", "held", "record", "schedules", "__version__"]

_notebooks = {}


def load_ipython_extension(shell):
    """`%load_ext traintrue`."""
    from .notebook import Notebook

    _notebooks[shell] = Notebook(shell)


def unload_ipython_extension(shell):
    """`%unload_ext traintrue`."""
    _notebooks.pop(shell).close()
