"""How a golden is drawn, measured and written.

Every number is computed in f64 from values that f32 has exactly, and is rounded once, to f32: so the bytes of a golden do
not depend on the order in which a machine sums, and the error of a trainer that computes in f32 is that trainer's own.
"""

import hashlib
import importlib.metadata
import json
import platform
import random
import re
from pathlib import Path

import numpy
import torch
from safetensors.torch import save_file
from torch import nn

HERE = Path(__file__).parent
SOURCES = sorted(path.name for path in HERE.glob("*.py") if path.name != "check.py") + ["requirements.txt"]
PACKAGES = ["torch", "transformers", "peft", "safetensors", "numpy"]


def uniform(seed: str, shape: tuple[int, ...], deviation: float, around: float = 0.0) -> torch.Tensor:
    """Values that f32 has exactly, the same on every machine: torch's own draws depend on the vector unit."""
    draw = random.Random(seed)
    edge = 3**0.5 * deviation
    values = [around + draw.uniform(-edge, edge) for _ in range(torch.Size(shape).numel())]
    return torch.tensor(values, dtype=torch.float32).reshape(shape).double()


def our_name(name: str) -> str:
    """The reference trainer's name of a parameter, which PEFT may have wrapped."""
    name = name.replace(".base_layer", "").replace(".modules_to_save.default", "")
    return re.sub(r"lora_([AB])\.default\.weight", lambda found: f"lora_{found[1].lower()}", name)


def parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters by our names, without what PEFT keeps of a head that it has replaced."""
    return {our_name(name): it for name, it in model.named_parameters() if "original_module" not in name}


def in_our_layout(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """PyTorch keeps a linear as `[out, in]`, the reference trainer as `[in, out]`."""
    turned = lambda name, it: it.T if it.dim() == 2 and name != "embedding.weight" else it
    return {name: turned(name, it.detach()).clone() for name, it in tensors.items()}


def initialise(model: nn.Module, seed: str):
    """Draws every parameter, none of them 0 or 1: a bias that is left out must show."""
    with torch.no_grad():
        for name, it in parameters(model).items():
            if it.dim() == 1:
                values = uniform(f"{seed}/{name}", it.shape, 0.2, 1.0 if name.endswith("norm.weight") else 0.0)
            else:
                deviation = 0.5 if name == "embedding.weight" else it.shape[1] ** -0.5
                values = uniform(f"{seed}/{name}", it.shape, deviation)
            it.copy_(values)


def norm(tensors: dict[str, torch.Tensor]) -> float:
    """The L2 norm over all tensors together."""
    return sum(float(it.square().sum()) for it in tensors.values()) ** 0.5


def distance(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """The largest L2 distance between two tensors of one name."""
    return max(float((one[name] - other[name]).norm()) for name in other)


def figures(tensor: torch.Tensor) -> list | float:
    """Nested lists of the shortest decimals that are these values in f32."""
    if tensor.dim() > 0:
        return [figures(row) for row in tensor]
    return float(str(numpy.float32(tensor.item())))


def figure(value: float, digits: int) -> float:
    """`value` to so many significant digits."""
    return float(f"{value:.{digits}g}")


def rounded(tensor: torch.Tensor) -> torch.Tensor:
    """In f32. What is 0 but for the rounding of f64, as the slope of a key's bias is, is 0 on every machine."""
    tensor = tensor.detach()
    return tensor.where(tensor.abs() > 1e-13, 0.0).float().contiguous()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def provenance(folder: Path, files: list[str]) -> dict:
    versions = {package: importlib.metadata.version(package) for package in PACKAGES}
    return {
        "python": platform.python_version(),
        **{package: version.split("+")[0] for package, version in versions.items()},
        "sources": {name: sha256(HERE / name) for name in SOURCES},
        "files": {name: sha256(folder / name) for name in files},
    }


def write(folder: Path, name: str, document: dict, tensors: dict[str, torch.Tensor] | None = None, files=()):
    """Writes NAME.json, one line a field, and NAME.safetensors where there are tensors."""
    files = list(files)
    if tensors:
        save_file({name: rounded(it) for name, it in tensors.items()}, folder / f"{name}.safetensors")
        files.append(f"{name}.safetensors")
    document = {"provenance": provenance(folder, sorted(files)), **document}
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in document.items())
    (folder / f"{name}.json").write_text(f"{{\n{lines}\n}}\n", encoding="utf-8", newline="\n")
