"""Records a script that does not import this package: from the import of torch to the end of the process."""

from __future__ import annotations

import atexit
import importlib.abc
import importlib.util
import json
import os
import sys
from typing import IO, Any, Dict, List, Optional

# Set by `traintrue record`: the folder of the traces, and what its user declares, as JSON.
FOLDER, DECLARED = "TRAINTRUE_RECORD", "TRAINTRUE_DECLARED"


def start() -> None:
    """Waits for torch, and attaches the recorder when it has been imported."""
    folder = os.environ.get(FOLDER)
    if not folder:
        return
    _reached(folder, "started")
    if "torch" in sys.modules:
        _attach(folder)
    else:
        sys.meta_path.insert(0, _AfterTorch(folder))


class _AfterTorch(importlib.abc.MetaPathFinder):
    """Finds torch as everybody else does, and attaches the recorder once torch has been executed."""

    def __init__(self, folder: str) -> None:
        self._folder, self._asks = folder, False

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name != "torch" or self._asks:
            return None
        # Every time: a library may only ask whether torch is there, long before somebody imports it.
        self._asks = True
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._asks = False
        loader = getattr(spec, "loader", None)
        if loader is None:
            return spec
        execute = loader.exec_module

        def executed(module: Any) -> None:
            execute(module)
            sys.meta_path.remove(self)
            try:
                _attach(self._folder)
            except Exception as error:  # noqa: BLE001: the script must go on, whatever went wrong here
                print(f"traintrue: this process is not recorded: {type(error).__name__}: {error}", file=sys.stderr)

        loader.exec_module = executed
        return spec


def _attach(folder: str) -> None:
    from .observe.attach import attach
    from .observe.cut import Cut
    from .observe.session import Session

    declared: Dict[str, Any] = json.loads(os.environ.get(DECLARED) or "{}")
    every, cut = declared.pop("digest_every", 10), declared.pop("cut", None)
    _reached(folder, "torch")
    session = Session(lambda: new_trace(folder), declared, every, None if cut is None else Cut(**cut))
    attach(session)
    failed: List[BaseException] = []
    _remember(failed)
    atexit.register(lambda: session.close(failed[0] if failed else None))


def _reached(folder: str, name: str) -> None:
    """Leaves an empty file. Where no trace is left, the command says by these files how far the script came."""
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "a", encoding="utf-8"):
        pass


def _remember(failed: List[BaseException]) -> None:
    """Keeps the exception that ends the script; it is printed as before."""
    before = sys.excepthook

    def hook(kind: Any, error: BaseException, traceback: Any) -> None:
        failed.append(error)
        before(kind, error, traceback)

    sys.excepthook = hook


def new_trace(folder: str) -> IO[str]:
    """A new file in the folder: one per process that trains, named by its rank if it has one."""
    rank: Optional[str] = os.environ.get("RANK")
    name = "run" if rank is None else f"rank-{rank}"
    for number in range(1, 10_000):
        path = os.path.join(folder, f"{name}.jsonl" if number == 1 else f"{name}-{number}.jsonl")
        try:
            return open(path, "x", encoding="utf-8")
        except FileExistsError:
            continue
    raise FileExistsError(f"{folder}: 9,999 traces of {name} are there; name another folder with --out")
