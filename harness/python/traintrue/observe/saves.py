"""The files that a script saves and loads where it is cut: which of them hold all that a resume needs."""

from __future__ import annotations

import io
import os
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Set, Tuple

# Shape and checksum of a tensor.
Known = Tuple[Tuple[int, ...], str]
# A name for what has no path.
MEMORY = "memory"


class Saves:
    """What was saved where. A checkpoint may be one file or a folder of several, and may get its name after it was written."""

    def __init__(self, tensors: Any, needed: Callable[[], List[Any]]) -> None:
        """`needed` gives the tensors that a resume needs: parameters that train, and the optimizers' states."""
        self._tensors, self._needed = tensors, needed
        self.loads: List[str] = []
        # What each folder got since the last update.
        self._held: Dict[str, Set[Known]] = {}
        self._step = 0
        # Saved files by path, with the update and whether they are whole.
        self._files: Dict[str, Tuple[int, bool]] = {}
        # The same of what was saved in memory, by its length: a file of that length holds it.
        self._memory: Dict[int, Tuple[int, bool]] = {}

    def saved(self, saved: Any, to: Any, step: int) -> Tuple[str, bool]:
        """The path of a file that was saved after `step` updates, and whether it is whole with what lies beside it."""
        path = path_of(to)
        if step != self._step:
            self._held, self._step = {}, step
        held = self._held.setdefault(os.path.dirname(path), set())
        held.update(self._known(it) for it in self._tensors_in(saved))
        whole = all(self._known(it) in held for it in self._needed())
        if os.path.isfile(path):
            self._files[path] = (step, whole)
            return path, whole
        # A pipe or the null device keeps nothing, and memory nothing beyond the process.
        if isinstance(to, io.BytesIO):
            self._memory[to.getbuffer().nbytes] = (step, whole)
        return path, False

    def moved(self, source: Any, to: Any, keeps: bool) -> List[Tuple[str, int, bool]]:
        """A file or a folder gets another name, or a second one: the saved files among them, by their new paths."""
        old, new = path_of(source), path_of(to)
        found = {path: held for path, held in self._files.items() if path == old or path.startswith(old + os.sep)}
        renamed = {new + path[len(old) :]: held for path, held in found.items()}
        if not found and os.path.isfile(new) and os.path.getsize(new) in self._memory:
            renamed = {new: self._memory[os.path.getsize(new)]}
        for path in [] if keeps else found:
            del self._files[path]
        self._files.update(renamed)
        return [(path, *held) for path, held in renamed.items()]

    def removed(self, path: Any) -> List[str]:
        """A file or a folder is gone: the saved files that were there."""
        gone = path_of(path)
        found = [it for it in self._files if it == gone or it.startswith(gone + os.sep)]
        for it in found:
            del self._files[it]
        return found

    def loaded(self, source: Any) -> None:
        """The script has loaded from a file, or into a model or an optimizer."""
        self.loads.append(path_of(source))

    def _known(self, tensor: Any) -> Known:
        return tuple(int(extent) for extent in tensor.shape), self._tensors.checksum(tensor)

    def _tensors_in(self, saved: Any) -> Iterator[Any]:
        if self._tensors.is_tensor(saved):
            yield saved
        elif isinstance(saved, Mapping):
            for part in saved.values():
                yield from self._tensors_in(part)
        elif isinstance(saved, (list, tuple)):
            for part in saved:
                yield from self._tensors_in(part)
        elif isinstance(saved, self._tensors.module_kind()):
            yield from self._tensors_in(saved.state_dict())


def path_of(thing: Any) -> str:
    """The absolute path of a path or of an open file; `memory` for a buffer."""
    named: Optional[Any] = thing if isinstance(thing, (str, bytes, os.PathLike)) else getattr(thing, "name", None)
    return os.path.abspath(os.fsdecode(named)) if isinstance(named, (str, bytes, os.PathLike)) else MEMORY
