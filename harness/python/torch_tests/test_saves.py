"""Files that scripts save and load where they are cut: by which path, and whether they hold all that a resume needs."""

from __future__ import annotations

import gzip
import io
import os
import shutil
import tempfile
import unittest
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import safetensors.torch
import torch
from torch import nn

from traintrue.observe.cut import Cut

from .test_averages import recorded

# A folder, the model and its optimizer.
Script = Callable[[Path, nn.Module, Any], Any]
# A path below the folder, and whether the file is whole.
Saved = Tuple[str, Optional[bool]]


def checkpoints(script: Script, edge: str = "saved", before: Script = lambda *_: None, kind: Any = torch.optim.Adam, updates: int = 1) -> List[Saved]:
    """What is told of a script that calls `before` before training, and `script` after each update."""
    folder = Path(tempfile.mkdtemp()).resolve()

    def run() -> Any:
        model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        optimizer = kind(model.parameters(), lr=0.1)
        before(folder, model, optimizer)
        for _ in range(updates):
            model(torch.randn(4, 4)).pow(3).mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            script(folder, model, optimizer)
        return model, optimizer

    told = [it for it in recorded(run, Cut()) if it["event"] == "checkpoint" and it["edge"] == edge]
    shutil.rmtree(folder)
    return [(it["path"].replace(f"{folder}{os.sep}", "./"), it.get("whole")) for it in told]


def whole(model: nn.Module, optimizer: Any) -> Dict[str, Any]:
    return {"model": model.state_dict(), "optimizer": [optimizer.state_dict()]}


def flat(model: nn.Module, optimizer: Any) -> Dict[str, torch.Tensor]:
    moments = {f"{number}.{name}": it for number, held in optimizer.state_dict()["state"].items() for name, it in held.items()}
    return {**model.state_dict(), **moments}


def in_open_file(folder: Path, model: nn.Module, optimizer: Any) -> None:
    with open(folder / "a.pt", "wb") as file:
        torch.save(whole(model, optimizer), file)


def in_compressed_file(folder: Path, model: nn.Module, optimizer: Any) -> None:
    with gzip.open(folder / "a.gz", "wb") as file:
        torch.save(whole(model, optimizer), file)


def in_unique_file(folder: Path, model: nn.Module, optimizer: Any) -> None:
    with tempfile.NamedTemporaryFile(dir=folder, prefix="new", suffix="", delete=False) as file:
        torch.save(whole(model, optimizer), file)
    os.rename(file.name, folder / "new")
    os.replace(folder / "new", folder / "a.pt")


def renamed(owner: Any, name: str) -> Script:
    def script(folder: Path, model: nn.Module, optimizer: Any) -> None:
        torch.save(whole(model, optimizer), folder / "new.pt")
        getattr(owner, name)(folder / "new.pt", folder / "a.pt")

    return script


def of_two(model: str, optimizer: str) -> Script:
    """The model and the optimizer in a file each."""

    def script(folder: Path, of_model: nn.Module, of_optimizer: Any) -> None:
        for name, it in ((model, of_model), (optimizer, of_optimizer)):
            (folder / name).parent.mkdir(exist_ok=True)
            torch.save(it.state_dict(), folder / name)

    return script


def folder_renamed(owner: Any, name: str) -> Script:
    def script(folder: Path, model: nn.Module, optimizer: Any) -> None:
        of_two("new/model.pt", "new/optimizer.pt")(folder, model, optimizer)
        getattr(owner, name)(folder / "new", folder / "5")

    return script


def safetensors_and_pt(folder: Path, model: nn.Module, optimizer: Any) -> None:
    safetensors.torch.save_model(model, str(folder / "model.safetensors"))
    torch.save(optimizer.state_dict(), folder / "optimizer.pt")


def from_its_folder(folder: Path, model: nn.Module, optimizer: Any) -> None:
    before = os.getcwd()
    os.chdir(folder)
    torch.save(whole(model, optimizer), "a.pt")
    os.chdir(before)


def only_model(folder: Path, model: nn.Module, _optimizer: Any) -> None:
    torch.save(model.state_dict(), folder / "a.pt")


def in_half(folder: Path, model: nn.Module, optimizer: Any) -> None:
    torch.save({**whole(model, optimizer), "model": {name: it.half() for name, it in model.state_dict().items()}}, folder / "a.pt")


WHOLE = [("./a.pt", True)]
RENAMED = [("./new.pt", True), ("./a.pt", True)]
FOLDER = [("./new/model.pt", False), ("./new/optimizer.pt", True), ("./5/model.pt", False), ("./5/optimizer.pt", True)]
SAVES: Dict[str, Tuple[Script, List[Saved]]] = {
    "path": (lambda folder, *it: torch.save(whole(*it), str(folder / "a.pt")), WHOLE),
    "pathlib": (lambda folder, *it: torch.save(whole(*it), folder / "a.pt"), WHOLE),
    "keywords": (lambda folder, *it: torch.save(obj=whole(*it), f=folder / "a.pt"), WHOLE),
    "old format": (lambda folder, *it: torch.save(whole(*it), folder / "a.pt", _use_new_zipfile_serialization=False), WHOLE),
    "open file": (in_open_file, WHOLE),
    "from its folder": (from_its_folder, WHOLE),
    "compressed": (in_compressed_file, [("./a.gz", True)]),
    "model as it is": (lambda folder, model, it: torch.save((model, it.state_dict()), folder / "a.pt"), WHOLE),
    "os.rename": (renamed(os, "rename"), RENAMED),
    "os.replace": (renamed(os, "replace"), RENAMED),
    "os.link": (renamed(os, "link"), RENAMED),
    "shutil.move": (renamed(shutil, "move"), RENAMED),
    "shutil.copyfile": (renamed(shutil, "copyfile"), RENAMED),
    "a folder": (of_two("model.pt", "optimizer.pt"), [("./model.pt", False), ("./optimizer.pt", True)]),
    "two folders": (of_two("model/a.pt", "optimizer/a.pt"), [("./model/a.pt", False), ("./optimizer/a.pt", False)]),
    "a folder that is renamed": (folder_renamed(os, "rename"), FOLDER),
    "a folder that is moved": (folder_renamed(shutil, "move"), FOLDER),
    "safetensors": (lambda folder, *it: safetensors.torch.save_file(flat(*it), folder / "a.safetensors"), [("./a.safetensors", True)]),
    "safetensors' model": (safetensors_and_pt, [("./model.safetensors", False), ("./optimizer.pt", True)]),
    "nothing to resume": (lambda folder, *_: torch.save({"epoch": 3}, folder / "a.pt"), [("./a.pt", False)]),
    "model alone": (only_model, [("./a.pt", False)]),
    "in half": (in_half, [("./a.pt", False)]),
    "nothing": (lambda folder, *_: (folder / "a.json").write_text("{}") and os.rename(folder / "a.json", folder / "b.json"), []),
}


def loading(how: Callable[[Path, Path], Any]) -> Script:
    def before(folder: Path, *_: Any) -> None:
        torch.save({"it": torch.ones(3)}, folder / "a.pt")
        safetensors.torch.save_file({"it": torch.ones(3)}, folder / "a.safetensors")
        how(folder / "a.pt", folder / "a.safetensors")

    return before


def from_open_file(path: Path, _tensors: Path) -> None:
    with open(path, "rb") as file:
        torch.load(file, weights_only=True)


LOADS: Dict[str, Tuple[Callable[[Path, Path], Any], Sequence[str]]] = {
    "path": (lambda path, _: torch.load(str(path), "cpu"), ["./a.pt"]),
    "pathlib": (lambda path, _: torch.load(path, map_location="cpu", weights_only=True), ["./a.pt"]),
    "mapped": (lambda path, _: torch.load(path, mmap=True), ["./a.pt"]),
    "open file": (from_open_file, ["./a.pt"]),
    "buffer": (lambda path, _: torch.load(io.BytesIO(path.read_bytes())), ["memory"]),
    "safetensors": (lambda _, path: safetensors.torch.load_file(path), ["./a.safetensors"]),
    "several": (lambda path, tensors: (torch.load(path), safetensors.torch.load_file(tensors)), ["./a.pt", "./a.safetensors"]),
    "into a model": (lambda *_: nn.Linear(1, 1).load_state_dict(nn.Linear(1, 1).state_dict()), ["memory"]),
    "nothing": (lambda *_: None, []),
}


class AScript(unittest.TestCase):
    def test_saves_in_files_that_are_whole_or_not(self) -> None:
        for name, (script, expected) in SAVES.items():
            with self.subTest(name):
                self.assertEqual(checkpoints(script), expected)

    def test_saves_in_a_file_that_gets_its_name_in_several_moves(self) -> None:
        told = checkpoints(in_unique_file)
        self.assertEqual((told[0][0][:5], told[1:]), ("./new", [("./new", True), ("./a.pt", True)]))

    def test_without_moments_needs_its_model_only(self) -> None:
        self.assertEqual(checkpoints(only_model, kind=torch.optim.SGD), WHOLE)

    def test_saves_wholly_what_is_of_one_update(self) -> None:
        saves = iter([only_model, lambda folder, _, it: torch.save(it.state_dict(), folder / "optimizer.pt")])
        told = checkpoints(lambda *it: next(saves)(*it), updates=2)
        self.assertEqual(told, [("./a.pt", False), ("./optimizer.pt", False)])
        saves = iter([only_model, SAVES["nothing to resume"][0]])
        told = checkpoints(lambda *it: next(saves)(*it), updates=2, kind=lambda it, lr: torch.optim.SGD(it, lr=0.0))
        self.assertEqual(told, [("./a.pt", True), ("./a.pt", False)])

    def test_is_not_told_of_names_that_files_get_after_the_next_update(self) -> None:
        acts = iter([lambda folder, *it: torch.save(whole(*it), folder / "a.pt"), lambda folder, *_: os.rename(folder / "a.pt", folder / "b.pt")])
        self.assertEqual(checkpoints(lambda *it: next(acts)(*it), updates=2), WHOLE)

    def test_loads_before_it_trains(self) -> None:
        for name, (how, expected) in LOADS.items():
            with self.subTest(name):
                self.assertEqual(checkpoints(lambda *_: None, "loaded", loading(how)), [(path, None) for path in expected])


if __name__ == "__main__":
    unittest.main()
