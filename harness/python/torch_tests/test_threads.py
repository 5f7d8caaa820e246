"""What people have reported of training loops, as small scripts: right, each is held; with the reported bug, it is broken by its cause.

The scripts name the reports. Where a script has another form of a report's loop, it says "as in". `TRAINTRUE` in the environment
names the command; by default it is on the path.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Dict, List, Tuple

from .test_scripts import Bug, recorded

THREADS = Path(__file__).resolve().parent / "threads"

AUTOCAST = 'torch.autocast("cpu", dtype=torch.bfloat16)'
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
OPTIMIZER = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\n"
STEP = "optimizer.step()\n"
SKIPPED = "            skipped += 1\n"
TRAIN = "    model.train()\n"
# Parts of causes.
SUMMED = "summed, not averaged"
SILENT = "trainable tensors never received a gradient"
NORMS = "model.train() puts frozen batch norms back into training mode"
COPIES = "it runs on copies of the parameters, such as those that one autocast around the whole loop keeps"
STAYED = "gradients that are not finite stayed after the skipped update"
NO_TARGETS = "all labels of these micro-batches are left out (-100)"

# By script: the text that is replaced, the text in its place, the invariant of the first finding, and a part of its cause.
BUGS: Dict[str, List[Bug]] = {
    "adapters_recomputed": [("use_reentrant=False", "use_reentrant=True", "loop/gradients", f"6 of 8 {SILENT}")],
    "adapter_of_an_encoder": [
        ("        features =", "        with torch.no_grad():\n            features =", "loop/gradients", f"4 of 6 {SILENT}"),
        ("(features)", "(features.detach())", "loop/gradients", f"4 of 6 {SILENT}"),
    ],
    "undivided_losses": [("(loss / ACCUMULATION).backward()", "loss.backward()", "loop/loss-scale", SUMMED)],
    "tokens_of_a_window": [("/ count", "/ (targets != IGNORED).sum()", "loop/loss-scale", SUMMED)],
    "answers_without_targets": [("        if count == 0:\n            continue\n", "", "loop/gradients", NO_TARGETS)],
    "tags_cut_off": [('        if (batch["labels"] == -100).all():\n            continue\n', "", "loop/gradients", NO_TARGETS)],
    "pictures_of_one_seed": [("torch.Generator().manual_seed(seed)", "torch.manual_seed(seed)", "loop/evaluation", "set back to the seed 0 again and again")],
    "frozen_batch_norm": [(f"{TRAIN}    model.backbone.eval()\n", TRAIN, "loop/mode", NORMS)],
    "frozen_norms_of_a_network": [(f"{TRAIN}    freeze_norms()\n", TRAIN, "loop/mode", NORMS)],
    "probe_of_one_batch": [("loader = accelerator.prepare(model, optimizer, loader)", "loader, probes = accelerator.prepare(model, optimizer, loader, probes)", "loop/window", "the window closes early")],
    "workers_of_a_stream": [("self.rows[worker.id :: worker.num_workers]", "self.rows", "loop/samples", "get_worker_info()")],
    "lines_of_a_file": [("if number % worker.num_workers == worker.id:", "if line:", "loop/samples", "get_worker_info()")],
    "average_of_weights": [("    average.update(model)\n", "average.update(model)\n", "loop/average", "its decay acts 4 times per update")],
    "averaged_model": [("    averaged.update_parameters(", "averaged.update_parameters(", "loop/average", "its decay acts 5 times per update")],
    "cosine_length": [("T_max=EPOCHS * len(loader)", "T_max=20", "loop/schedule", "ends at update 20, and the rate rises again after it: T_max should be 30")],
    "autocast_of_a_forward": [
        ("\ntrain()\n", f"\nwith {AUTOCAST}:\n    train()\n", "loop/learns", COPIES),
        ("def train(", f"@{AUTOCAST}\ndef train(", "loop/learns", COPIES),
    ],
    "autocast_of_a_function": [(", cache_enabled=False", "", "loop/learns", COPIES)],
    "recomputed_dropout": [("preserve_rng_state=True", "preserve_rng_state=False", "loop/recompute", "preserve_rng_state is off")],
    "recomputed_depth": [("hidden + mask *", "hidden + self.mask(hidden) *", "loop/recompute", "draws from a generator of its own")],
    "clip_and_step": [(f"{CLIP}        {STEP}", f"{STEP}        {CLIP}", "loop/clip", "the gradients are clipped after optimizer.step()")],
    "skipped_update": [(f"{SKIPPED}            optimizer.zero_grad()\n", SKIPPED, "loop/gradients", STAYED)],
    "healthy_gradients": [("        optimizer.zero_grad()\n", "            optimizer.zero_grad()\n", "loop/gradients", STAYED)],
    "one_optimizer": [("(epoch):\n", f"(epoch):\n    {OPTIMIZER}", "loop/optimizer", "anew at update 11: a new optimizer is made inside the loop")],
    "halved_rate": [
        (
            '        for group in self.optimizer.param_groups:\n            group["lr"] = self.rate\n',
            "        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate)\n",
            "loop/optimizer",
            "anew at update 11: a new optimizer is made inside the loop",
        )
    ],
    "replaced_tensors": [
        (f"model = prepared(model)\n{OPTIMIZER}", f"{OPTIMIZER}model = prepared(model)\n", "loop/optimizer", "the model was wrapped, moved or replaced"),
    ],
}

# Other right ways to write them: a script, the texts that are replaced, and those in their places.
VARIANTS: List[Tuple[str, Dict[str, str]]] = [
    ("adapters_recomputed", {"use_reentrant=False": "use_reentrant=True", ".mean(1)\n": ".mean(1).requires_grad_()\n"}),
    ("adapter_of_an_encoder", {"        features =": "        with torch.set_grad_enabled(epoch > 0):\n            features ="}),
    ("undivided_losses", {"(loss / ACCUMULATION)": "loss", f"            {STEP}": f"            for it in model.parameters():\n                it.grad /= ACCUMULATION\n            {STEP}"}),
    ("undivided_losses", {"nn.MSELoss()": 'nn.MSELoss(reduction="sum")', "/ ACCUMULATION": "/ (2 * ACCUMULATION)"}),
    ("tokens_of_a_window", {"/ count": "/ (targets != IGNORED).sum() / ACCUMULATION"}),
    ("tags_cut_off", {'        if (batch["labels"] == -100).all():\n            continue\n': "", "        optimizer.zero_grad()\n": "        if loss.isnan():\n            continue\n        optimizer.zero_grad()\n"}),
    ("answers_without_targets", {"        if count == 0:\n            continue\n": "", f"        {STEP}": f"        if count > 0:\n            {STEP}"}),
    ("pictures_of_one_seed", {"    generator = torch.Generator().manual_seed(seed)\n": "    state = torch.get_rng_state()\n    generator = torch.manual_seed(seed)\n", TRAIN: f"{TRAIN}    torch.set_rng_state(state)\n"}),
    ("pictures_of_one_seed", {", generator=order": "", "    for (image,)": "    torch.manual_seed(1000 + epoch)\n    for (image,)"}),
    ("frozen_batch_norm", {f"{TRAIN}    model.backbone.eval()\n": "    model.head.train()\n"}),
    ("frozen_batch_norm", {"model.backbone.eval()\noptimizer": "optimizer", "    model.backbone.eval()\n": ""}),
    ("frozen_norms_of_a_network", {f"{TRAIN}    freeze_norms()\n": f"{TRAIN}    if epoch == 0:\n        freeze_norms()\n    else:\n        model.requires_grad_(True)\n", "[it for it in model.parameters() if it.requires_grad]": "model.parameters()"}),
    ("validation_left_early", {", held_out = accelerator": " = accelerator", ", loader, held_out)": ", loader)", "values)\n            model": "values)\n                    if seen == 1:\n                        break\n            model"}),
    ("workers_of_a_stream", {"torch.randn(40": "(40 + torch.randn(40", "_seed(0))\n\n": "_seed(0)) - 40)\n\n"}),
    ("average_of_weights", {"            average.update(model)\n    print": "    average.update(model)\n    print"}),
    ("averaged_model", {"nn.GELU()": "nn.BatchNorm1d(16), nn.GELU()", "fn(0.99)": "fn(0.99), use_buffers=True"}),
    ("cosine_length", {"T_max=EPOCHS * len(loader)": "T_max=EPOCHS", "        scheduler.step()\n": "", "    print": "    scheduler.step()\n    print"}),
    ("autocast_of_a_function", {", cache_enabled=False": "", f"            {STEP}": f"            {STEP}            torch.clear_autocast_cache()\n"}),
    ("recomputed_dropout", {"preserve_rng_state=True": "preserve_rng_state=False", "nn.Dropout(0.3)": "nn.LayerNorm(16)"}),
    ("recomputed_dropout", {"use_reentrant=False": "use_reentrant=True", "nn.ReLU(), nn": "nn.BatchNorm1d(16), nn.ReLU(), nn"}),
    ("clip_and_step", {f"{CLIP}        {STEP}": f"{STEP}        {CLIP.replace('1.0', 'math.inf')}", "import torch\n\n": "", '"""\n\nimport': '"""\n\nimport math\n\nimport'}),
    ("window_and_epoch", {"ACCUMULATION = 3": "ACCUMULATION = 2"}),
    ("accelerated_window", {"steps=5": "steps=4"}),
    ("skipped_update", {"ACCUMULATION = 2": "ACCUMULATION = 1"}),
    ("healthy_gradients", {"        optimizer.zero_grad()\n": "", "        nn.functional": "        optimizer.zero_grad()\n        nn.functional", "scales[30]": "scales[39]", ", shuffle=True": ""}),
    ("one_optimizer", {"for epoch in range(3):\n": f"for epoch in range(4):\n    if epoch == 2:\n        {OPTIMIZER.replace('1e-2', '1e-3')}"}),
    ("replaced_tensors", {"prepared(model)\n": "prepared(model).double().float()\n"}),
]
