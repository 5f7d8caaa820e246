"""What one training step of small Hugging Face models holds at its peak, as torch's CPU allocator counts it.

    OMP_NUM_THREADS=1 python generate.py            # writes peaks.json again: the same bytes
    OMP_NUM_THREADS=1 python generate.py llama      # prints the cases of one model, and writes nothing
"""

import copy
import hashlib
import importlib.metadata
import json
import sys
import warnings
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from torch.profiler import ProfilerActivity, profile

from models import MODELS, Model

HERE = Path(__file__).parent
SOURCES = ["generate.py", "models.py", "requirements.txt"]
PACKAGES = ["torch", "transformers", "peft"]

# Per model: everything trained, and adapters; with both attentions; with and without checkpointing.
LONG = [
    {"attention": attention, "checkpointing": checkpointing, "adapters": adapters}
    for adapters in (None, 8)
    for checkpointing in (False, True)
    for attention in ("eager", "sdpa")
]
# Then a window of two micro-batches, and a step in which the weights weigh more than the activations.
MORE = [
    {"attention": "sdpa", "checkpointing": False, "adapters": None, "accumulation": 2},
    {"attention": "sdpa", "checkpointing": False, "adapters": None, "short": True},
]


def cases(model: Model):
    """The settings of every case of a model, all fields written out."""
    for settings in LONG + MORE:
        settings = {"accumulation": 1, **settings}
        extents = model.short if settings.pop("short", False) else model.long
        yield {**settings, **extents}


def build(model: Model, case: dict) -> torch.nn.Module:
    """A model with random weights, ready to train."""
    torch.manual_seed(0)
    config = copy.deepcopy(model.config)
    built = model.cls._from_config(config, attn_implementation=case["attention"])
    if case["checkpointing"]:
        built.gradient_checkpointing_enable()
    if case["adapters"]:
        built = get_peft_model(built, LoraConfig(r=case["adapters"], lora_alpha=16, target_modules=model.lora))
    return built.train()


def step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, micro_batches: list[dict]) -> None:
    """One optimizer step, as `Trainer` makes it: the output goes out of scope before the backward pass."""
    for inputs in micro_batches:
        loss = model(**inputs).loss / len(micro_batches)
        loss.backward()
        del loss
    optimizer.step()
    optimizer.zero_grad()


def peak_bytes(work) -> int:
    """The most bytes that `work` holds at one time beyond those held before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        work()
    # Not `seen.events()`: those leave out the memory that belongs to an operation.
    events = [it for it in seen.profiler.kineto_results.events() if it.name() == "[memory]"]
    held = most = 0
    for event in sorted(events, key=lambda it: it.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


def bytes_of(tensors) -> int:
    """The bytes of the storages behind some tensors: tied ones once."""
    storages = {it.untyped_storage().data_ptr(): it.untyped_storage().nbytes() for it in tensors}
    return sum(storages.values())


def measure(model: Model, case: dict) -> dict:
    """The bytes of the model and its optimizer after a first step, and the peak of the second."""
    built = build(model, case)
    trained = [it for it in built.parameters() if it.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    micro_batches = [model.inputs(case) for _ in range(case["accumulation"])]
    step(built, optimizer, micro_batches)
    parameters = bytes_of(built.parameters())
    moments = bytes_of(it for state in optimizer.state.values() for it in state.values() if it.dim() > 0)
    above = peak_bytes(lambda: step(built, optimizer, micro_batches))
    measured = {
        "parameters_bytes": parameters,
        "trained_bytes": bytes_of(trained),
        "moments_bytes": moments,
        "peak_bytes": parameters + moments + above,
    }
    return {**case, "targets": model.targets if case["adapters"] else None, **measured}


def header() -> dict:
    return {
        "made_by": {name: importlib.metadata.version(name).split("+")[0] for name in PACKAGES},
        "sources": {name: hashlib.sha256((HERE / name).read_bytes()).hexdigest() for name in SOURCES},
    }


def golden() -> dict:
    models = {}
    for name, model in MODELS.items():
        measured = [measure(model, case) for case in cases(model)]
        models[name] = {"config": json.loads(model.config.to_json_string()), "cases": measured}
    return {**header(), "models": models}


def text(document: dict) -> str:
    """One line per configuration and per case: a changed case is a changed line."""
    lines = ["{"]
    for name in ("made_by", "sources"):
        lines.append(f' "{name}": {json.dumps(document[name])},')
    lines.append(' "models": {')
    models = []
    for name, model in document["models"].items():
        config = json.dumps(model["config"], sort_keys=True)
        measured = ",\n".join(f"   {json.dumps(case)}" for case in model["cases"])
        models.append(f'  "{name}": {{\n   "config": {config},\n   "cases": [\n{measured}]}}')
    lines.append(",\n".join(models) + "}}")
    return "\n".join(lines) + "\n"


def main() -> None:
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    torch.set_num_threads(1)
    if wanted := sys.argv[1:]:
        for name in wanted:
            for case in cases(MODELS[name]):
                print(json.dumps(measure(MODELS[name], case)))
        return
    (HERE / "peaks.json").write_text(text(golden()))


if __name__ == "__main__":
    main()
