"""After training it saves, copies, compiles, traces and transforms what it has, and prints what came of it."""

import copy
import inspect
import io
import pickle

import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
inputs = torch.randn(48, 6)
labels = (inputs[:, 0] > 0).long()
loader = DataLoader(TensorDataset(inputs, labels), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 2))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 12)
criterion = nn.CrossEntropyLoss()
for _ in range(2):
    for batch, targets in loader:
        optimizer.zero_grad()
        criterion(model(batch), targets).backward()
        optimizer.step()
        scheduler.step()


def attempt(name, action):
    try:
        print(name, action() is not None)
    except Exception as error:  # noqa: BLE001: whatever happens is printed
        print(name, type(error).__name__)


def loss(scores: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    return functional.cross_entropy(scores, targets)


def of_one(parameters, row, target):
    scores = torch.func.functional_call(model, parameters, (row[None],))
    return functional.cross_entropy(scores, target[None])


for thing in (model, optimizer, scheduler, criterion, loader, loader.batch_sampler, loader.sampler):
    attempt(f"save {type(thing).__name__}", lambda: torch.save(thing, io.BytesIO()) or True)
    attempt(f"pickle {type(thing).__name__}", lambda: pickle.loads(pickle.dumps(thing)))
    attempt(f"copy {type(thing).__name__}", lambda: copy.deepcopy(thing))
print(len(list(copy.deepcopy(loader))), "batches of a copy")
named = dict(model.named_parameters())
attempt("script the model", lambda: torch.jit.script(model))
attempt("script a loss", lambda: torch.jit.script(loss)(model(inputs), labels))
attempt("script the criterion", lambda: torch.jit.script(criterion))
attempt("trace the model", lambda: torch.jit.trace(model, inputs))
attempt("export the model", lambda: torch.export.export(model, (inputs,)))
attempt("gradients by row", lambda: torch.func.vmap(torch.func.grad(of_one), in_dims=(None, 0, 0))(named, inputs, labels))
for function in (functional.cross_entropy, torch.save, nn.utils.clip_grad_norm_, torch.optim.AdamW.step, torch.Tensor.backward):
    print(function.__module__, function.__name__, inspect.signature(function))
print([len(it._forward_hooks) for it in model.modules()], [len(it._backward_hooks or ()) for it in model.parameters()])
print(torch.rand(1).item(), sum(it.sum().item() for it in model.parameters()))
