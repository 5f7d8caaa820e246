"""Reports that people have made of training loops, each as a small script: right, it is held; with the reported bug, it is broken by its cause.

The scripts name the threads. `TRAINTRUE` in the environment names the command; by default it is on the path.
"""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path
from typing import Dict, List, Tuple

from .test_scripts import Bug, recorded

THREADS = Path(__file__).resolve().parent / "threads"

UNDIVIDED, SILENT, SEEDED = "summed, not averaged", "never received a gradient", "the global random generator is set back"
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), "
OPTIMIZER = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\n"

# By script: the text that is replaced, the text in its place, the invariant of the first finding, and a part of its cause.
BUGS: Dict[str, List[Bug]] = {
    "adapters_recomputed": [("use_reentrant=False", "use_reentrant=True", "loop/gradients", f"6 of 8 trainable tensors {SILENT}")],
    "adapter_of_an_encoder": [
        ("        features = self.encoder(rows)\n", "        with torch.no_grad():\n            features = self.encoder(rows)\n", "loop/gradients", f"4 of 6 trainable tensors {SILENT}"),
        ("self.classifier(features)", "self.classifier(features.detach())", "loop/gradients", f"4 of 6 trainable tensors {SILENT}"),
    ],
    "undivided_losses": [("(loss / ACCUMULATION).backward()", "loss.backward()", "loop/loss-scale", UNDIVIDED)],
    "tokens_of_a_window": [("/ count", "/ (targets != IGNORED).sum()", "loop/loss-scale", UNDIVIDED)],
    "answers_without_targets": [("        if count == 0:\n            continue\n", "", "loop/gradients", "left out (-100)")],
    "tags_cut_off": [('        if (batch["labels"] == -100).all():\n            continue\n', "", "loop/gradients", "left out (-100)")],
    "pictures_of_one_seed": [
        ("    generator = torch.Generator().manual_seed(seed)\n", "    generator = torch.manual_seed(seed)\n", "loop/evaluation", SEEDED),
        ("    model.eval()\n    generator = torch.Generator()", "    model.eval()\n    torch.set_rng_state(torch.Generator().get_state())\n    generator = torch.Generator()", "loop/evaluation", SEEDED),
    ],
    "crop_of_one_seed": [
        ("        with torch.random.fork_rng():\n            torch.manual_seed(seed)\n            crop", "        seed_all(seed)\n        crop", "loop/evaluation", SEEDED),
        ("    model.eval()\n", "    seed_all(seed)\n    model.eval()\n", "loop/evaluation", SEEDED),
    ],
    "frozen_batch_norm": [("    model.train()\n    model.backbone.eval()\n", "    model.train()\n", "loop/mode", "puts frozen batch norms back")],
    "frozen_norms_of_a_network": [("    model.train()\n    freeze_norms()\n    return", "    model.train()\n    return", "loop/mode", "puts frozen batch norms back")],
    "validation_left_early": [
        ("model(batch), values)\n            model.train()\n", "model(batch), values)\n                    if seen == 1:\n                        break\n            model.train()\n", "loop/window", "an evaluation inside the window"),
    ],
    "probe_of_one_batch": [
        ("model, optimizer, loader = accelerator.prepare(model, optimizer, loader)", "model, optimizer, loader, probes = accelerator.prepare(model, optimizer, loader, probes)", "loop/window", "an evaluation inside the window"),
    ],
    "workers_of_a_stream": [("self.rows[worker.id :: worker.num_workers]", "self.rows", "loop/samples", "get_worker_info()")],
    "lines_of_a_file": [("if number % worker.num_workers == worker.id:", "if line:", "loop/samples", "get_worker_info()")],
    "average_of_weights": [("            average.update(model)\n", "        average.update(model)\n", "loop/average", "its decay acts 4 times per update")],
    "averaged_model": [("                averaged.update_parameters(model)\n", "            averaged.update_parameters(model)\n", "loop/average", "its decay acts 5 times per update")],
    "cosine_length": [("T_max=EPOCHS * len(loader)", "T_max=20", "loop/schedule", "ends at update 20, and the rate rises again after it: T_max should be 30")],
    "warmup_and_cosine": [("num_training_steps=epochs * len(loader)", "num_training_steps=2 * len(loader)", "loop/schedule", "num_training_steps should be 30")],
    "autocast_of_a_forward": [
        ("\ntrain()\n", '\nwith torch.autocast("cpu", dtype=torch.bfloat16):\n    train()\n', "loop/learns", "one autocast around the whole loop"),
    ],
    "autocast_of_a_function": [(", cache_enabled=False", "", "loop/learns", "one autocast around the whole loop")],
    "recomputed_dropout": [("preserve_rng_state=True", "preserve_rng_state=False", "loop/recompute", "preserve_rng_state is off")],
    "recomputed_depth": [("hidden + mask *", "hidden + self.mask(hidden) *", "loop/recompute", "draws from a generator of its own")],
    "clip_and_step": [
        (f"        {CLIP}1.0)\n        optimizer.step()\n", f"        optimizer.step()\n        {CLIP}1.0)\n", "loop/clip", "after optimizer.step()"),
    ],
    "clip_of_a_window": [
        (f"            {CLIP}limit)\n            optimizer.step()\n            optimizer.zero_grad(set_to_none=False)\n", f"            optimizer.step()\n            optimizer.zero_grad(set_to_none=False)\n            {CLIP}limit)\n", "loop/clip", "after optimizer.step()"),
    ],
    "skipped_update": [("            skipped += 1\n            optimizer.zero_grad()\n", "            skipped += 1\n", "loop/gradients", "stayed after the skipped update")],
    "healthy_gradients": [("        optimizer.zero_grad()\n", "            optimizer.zero_grad()\n", "loop/gradients", "stayed after the skipped update")],
    "one_optimizer": [("def train_epoch(epoch):\n", f"def train_epoch(epoch):\n    {OPTIMIZER}", "loop/optimizer", "anew at update 11")],
    "halved_rate": [
        ('        for group in self.optimizer.param_groups:\n            group["lr"] = self.rate\n', "        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate)\n", "loop/optimizer", "anew at update 11"),
    ],
    "replaced_tensors": [(f"model = prepared(model)\n{OPTIMIZER}", f"{OPTIMIZER}model = prepared(model)\n", "loop/optimizer", "the model was wrapped, moved or replaced")],
}  # fmt: skip
