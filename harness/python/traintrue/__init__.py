"""Records a PyTorch training loop as a trace, for the command `traintrue` to judge.

    with traintrue.record("run.jsonl", model, optimizer, loader, epochs=3, accumulation=4):
        train(model, optimizer, loader)  # your loop, unchanged
"""

from . import schedules
from .recorder import Recorder, record

__version__ = "0.1.0"
__all__ = ["Recorder", "record", "schedules", "__version__"]
