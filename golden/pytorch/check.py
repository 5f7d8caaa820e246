"""Holds this folder to the PyTorch and PEFT that are installed: `python check.py TRAINTRUE`, a built binary.

1. The goldens are made again, and must be the same bytes.
2. The binary trains adapters and a head and saves them; PEFT must load the folder and give the same outputs.

The other way round, PEFT's folders in the trainer, is part of `cargo test`.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from torch.nn import functional

from data import IGNORED, collate
from golden import HERE, in_our_layout, parameters
from model import Model

# Above what f32 sums differ by on their way through this model, which is 6 sqrt(700) 2^-24 = 1e-5 of an output's norm; a
# wrong scale of the adapters moves the outputs by a twentieth.
TOLERANCE = 2e-5


def goldens_are_the_same(folder: Path) -> list[str]:
    """The files that are not what the generator writes."""
    subprocess.run([sys.executable, "-B", HERE / "generate.py", folder], check=True)
    written = {it.relative_to(folder) for it in folder.rglob("*") if it.is_file()}
    is_same = lambda it: (HERE / it).exists() and (HERE / it).read_bytes() == (folder / it).read_bytes()
    return sorted(str(it) for it in written if not is_same(it))


def train(traintrue: str, plan: dict, samples: list[int], folder: Path) -> tuple[Path, list[dict]]:
    """The folder that the trainer has saved after an epoch, and what it says of the samples' rows there."""
    plan = plan | {
        "stop": {"epoch": 1, "micro_batches": 0, "save": str(folder)},
        "probes": [{"name": "saved", "at": "end", "samples": samples}],
    }
    trace = subprocess.run([traintrue, "train"], input=json.dumps(plan), capture_output=True, text=True, check=True)
    events = [json.loads(line) for line in trace.stdout.splitlines()]
    rows = next(event["rows"] for event in events if event["event"] == "probe")
    return next(folder.glob("epoch-*")), rows


def loaded(plan: dict, folder: Path) -> nn.Module:
    """The trainer's base under its adapters and head, which PEFT loads."""
    model = Model(plan)
    saved = load_file(folder / "model.safetensors")
    turned = in_our_layout(saved)
    with torch.no_grad():
        for name, it in parameters(model).items():
            # The head is PEFT's to bring.
            values = torch.full_like(it, 0.5) if name.startswith("projection") else turned[name]
            it.copy_(values)
    wrapped = PeftModel.from_pretrained(model, folder)
    found = in_our_layout(parameters(wrapped.get_base_model()))
    for name, values in saved.items():
        assert torch.equal(found[name], values), f"{name} is not what was saved"
    assert any(values.abs().max() > 0 for name, values in saved.items() if name.endswith("lora_b"))
    return wrapped.get_base_model().double()


def sign(number: int, at: int) -> float:
    """Of element `at` in the `number`-th signed sum that a trace has of a tensor (the finaliser of SplitMix64)."""
    most = (1 << 64) - 1
    x = ((number << 48 | at) + 0x9E37_79B9_7F4A_7C15) & most
    x = ((x ^ x >> 30) * 0xBF58_476D_1CE4_E5B9) & most
    x = ((x ^ x >> 27) * 0x94D0_49BB_1331_11EB) & most
    return -1.0 if (x ^ x >> 31) & 1 else 1.0


def outputs(model: nn.Module, plan: dict, samples: list[int]) -> list[torch.Tensor]:
    """What a trace has of each row: its loss, two signed sums of the logits of each token, its head's vector."""
    batch = collate(plan, samples)
    with torch.no_grad():
        hidden = model(batch)
        logits, vectors = model.lm_head(hidden[: batch.anchors]), model.vectors(hidden, batch)
    signs = torch.tensor([[sign(number, at) for at in range(logits.shape[2])] for number in (0, 1)]).double()
    found = []
    for row in range(batch.anchors):
        loss = functional.cross_entropy(logits[row], batch.targets[row], ignore_index=IGNORED, reduction="sum")
        sums = logits[row][batch.real[row]] @ signs.T
        found.append(torch.cat([loss[None], sums.flatten(), vectors[row]]))
    return found


def off(traintrue: str, name: str, folder: Path) -> float:
    """How far the trainer's outputs lie from those of its folder in PEFT, relative to their norm."""
    golden = json.loads((HERE / f"{name}.json").read_text())
    path, rows = train(traintrue, golden["plan"], golden["batch"], folder)
    theirs = torch.cat(outputs(loaded(golden["plan"], path), golden["plan"], golden["batch"]))
    ours = [[float(row["loss"]), *map(float, row["logits"]), *map(float, row["head"])] for row in rows]
    return float((torch.tensor(sum(ours, []), dtype=torch.float64) - theirs).norm() / theirs.norm())


def main(traintrue: str) -> int:
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        changed = goldens_are_the_same(Path(folder))
        print(f"goldens made again: {', '.join(changed) + ' changed' if changed else 'the same bytes'}")
        failed |= bool(changed)
    for name in ("lora", "rslora"):
        with tempfile.TemporaryDirectory() as folder:
            found = off(traintrue, name, Path(folder))
            print(f"{name}: saved by the trainer, loaded by PEFT: outputs {found:.1e} apart, at most {TOLERANCE:.0e}")
            failed |= not found <= TOLERANCE
    return int(failed)


if __name__ == "__main__":
    torch.set_num_threads(1)
    if len(sys.argv) != 2:
        sys.exit("usage: python check.py TRAINTRUE")
    sys.exit(main(os.path.abspath(sys.argv[1])))
