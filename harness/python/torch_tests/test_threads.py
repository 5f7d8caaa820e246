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

# Texts of the scripts.
AUTOCAST = 'torch.autocast("cpu", dtype=torch.bfloat16)'
CLEAR, STEP, SKIPPED = "optimizer.zero_grad()\n", "optimizer.step()\n", "            skipped += 1\n"
CLIP = "nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n"
DIVIDES = "for it in model.parameters():\n                it.grad /= ACCUMULATION\n"
LEAVES = "values)\n                    if seen == 1:\n                        break\n            model"
NO_TAGS = '        if (batch["labels"] == -100).all():\n            continue\n'
NONE_LEFT = "        if count == 0:\n            continue\n"
OPTIMIZER = "optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)\n"
PREPARED = "model, optimizer, loader = accelerator.prepare(model, optimizer"
REPLACED = "model = prepared(model)\n"
SETS_RATE = '        for group in self.optimizer.param_groups:\n            group["lr"] = self.rate\n'
STATE = "    model.eval()\n    state = torch.get_rng_state()\n"
TRAIN = "    model.train()\n"
TRAINABLE = "[it for it in model.parameters() if it.requires_grad]"
# Parts of causes.
ANEW = "anew at update 11: a new optimizer is made inside the loop"
COPIES = "it runs on copies of the parameters, such as those that one autocast around the whole loop keeps"
NO_TARGETS = "all labels of these micro-batches are left out (-100)"
NORMS = "model.train() puts frozen batch norms back into training mode"
SILENT = "trainable tensors never received a gradient"
STAYED = "gradients that are not finite stayed after the skipped update"
SUMMED = "summed, not averaged"

# By script: the text that is replaced, the text in its place, the invariant of the first finding, and a part of its cause.
BUGS: Dict[str, List[Bug]] = {
    "adapters_recomputed": [("use_reentrant=False", "use_reentrant=True", "loop/gradients", f"6 of 8 {SILENT}")],
    "adapter_of_an_encoder": [
        ("        features =", "        with torch.no_grad():\n            features =", "loop/gradients", f"4 of 6 {SILENT}"),
        ("(features)", "(features.detach())", "loop/gradients", f"4 of 6 {SILENT}"),
    ],
    "undivided_losses": [("(loss / ACCUMULATION).backward()", "loss.backward()", "loop/loss-scale", SUMMED)],
    "tokens_of_a_window": [("/ count", "/ (targets != IGNORED).sum()", "loop/loss-scale", SUMMED)],
    "answers_without_targets": [(NONE_LEFT, "", "loop/gradients", NO_TARGETS)],
    "tags_cut_off": [(NO_TAGS, "", "loop/gradients", NO_TARGETS)],
    "pictures_of_one_seed": [("torch.Generator().manual_seed(seed)", "torch.manual_seed(seed)", "loop/evaluation", "set back to the seed 0 again and again")],
    "frozen_batch_norm": [(f"{TRAIN}    model.backbone.eval()\n", TRAIN, "loop/mode", NORMS)],
    "frozen_norms_of_a_network": [(f"{TRAIN}    freeze_norms()\n", TRAIN, "loop/mode", NORMS)],
    "probe_of_one_batch": [
        (f"{PREPARED}, loader)", f"{PREPARED.replace(' =', ', probes =')}, loader, probes)", "loop/window", "from the first evaluation on"),
    ],
    "workers_of_a_stream": [("self.rows[worker.id :: worker.num_workers]", "self.rows", "loop/samples", "get_worker_info()")],
    "lines_of_a_file": [("if number % worker.num_workers == worker.id:", "if line:", "loop/samples", "get_worker_info()")],
    "average_of_weights": [("    average.update(model)\n", "average.update(model)\n", "loop/average", "its decay acts 4 times per update")],
    "averaged_model": [("    averaged.update", "averaged.update", "loop/average", "its decay acts 5 times per update")],
    "cosine_length": [("T_max=EPOCHS * len(loader)", "T_max=20", "loop/schedule", "ends at update 20, and the rate rises again after it")],
    "autocast_of_a_forward": [
        ("\ntrain()\n", f"\nwith {AUTOCAST}:\n    train()\n", "loop/learns", COPIES),
        ("def train(", f"@{AUTOCAST}\ndef train(", "loop/learns", COPIES),
    ],
    "autocast_of_a_function": [(", cache_enabled=False", "", "loop/learns", COPIES)],
    "recomputed_dropout": [("preserve_rng_state=True", "preserve_rng_state=False", "loop/recompute", "preserve_rng_state is off")],
    "recomputed_depth": [("hidden + mask *", "hidden + self.mask(hidden) *", "loop/recompute", "draws from a generator of its own")],
    "clip_and_step": [(f"{CLIP}        {STEP}", f"{STEP}        {CLIP}", "loop/clip", "the gradients are clipped after optimizer.step()")],
    "skipped_update": [(f"{SKIPPED}            {CLEAR}", SKIPPED, "loop/gradients", STAYED)],
    "healthy_gradients": [(f"        {CLEAR}", f"            {CLEAR}", "loop/gradients", STAYED)],
    "one_optimizer": [("(epoch):\n", f"(epoch):\n    {OPTIMIZER}", "loop/optimizer", ANEW)],
    "halved_rate": [(SETS_RATE, "        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=self.rate)\n", "loop/optimizer", ANEW)],
    "replaced_tensors": [
        (f"{REPLACED}{OPTIMIZER}", f"{OPTIMIZER}{REPLACED}", "loop/optimizer", "the model was wrapped, moved or replaced after the optimizer was made"),
    ],
}

# What is no error by itself, and is only noted: a script, the text that is replaced, the text in its place, and a part of the note.
NOTED = [("window_and_epoch", "ACCUMULATION = 3", "ACCUMULATION = 8", "no window was ever full")]

# Other right ways to write them: a script, the texts that are replaced, and those in their places.
VARIANTS: List[Tuple[str, Dict[str, str]]] = [
    ("adapters_recomputed", {"use_reentrant=False": "use_reentrant=True", ".mean(1)\n": ".mean(1).requires_grad_()\n"}),
    ("adapter_of_an_encoder", {"        features =": "        with torch.set_grad_enabled(epoch > 0):\n            features ="}),
    ("undivided_losses", {"(loss / ACCUMULATION)": "loss", f"            {STEP}": f"            {DIVIDES}            {STEP}"}),
    ("undivided_losses", {"nn.MSELoss()": 'nn.MSELoss(reduction="sum")', "/ ACCUMULATION": "/ (2 * ACCUMULATION)"}),
    ("tokens_of_a_window", {"/ count": "/ (targets != IGNORED).sum() / ACCUMULATION"}),
    ("answers_without_targets", {NONE_LEFT: "", f"        {STEP}": f"        if count > 0:\n            {STEP}"}),
    ("tags_cut_off", {NO_TAGS: "", f"        {CLEAR}": f"        if loss.isnan():\n            continue\n        {CLEAR}"}),
    ("pictures_of_one_seed", {TRAIN: f"{TRAIN}    torch.set_rng_state(state)\n", "= torch.Generator().manual": "= torch.manual", "    model.eval()\n": STATE}),
    ("pictures_of_one_seed", {", generator=order": "", "    for (image,)": "    torch.manual_seed(1000 + epoch)\n    for (image,)"}),
    ("frozen_batch_norm", {f"{TRAIN}    model.backbone.eval()\n": "    model.head.train()\n"}),
    ("frozen_batch_norm", {"model.backbone.eval()\noptimizer": "optimizer", "    model.backbone.eval()\n": ""}),
    ("frozen_norms_of_a_network", {"    freeze_norms()\n    return": "    model.requires_grad_(True)\n    return", TRAINABLE: "model.parameters()"}),
    ("validation_left_early", {f"{PREPARED.replace(' =', ', held_out =')}, loader, held_out)": f"{PREPARED}, loader)", "values)\n            model": LEAVES}),
    ("workers_of_a_stream", {"num_workers=3": "num_workers=3, persistent_workers=True"}),
    ("average_of_weights", {"            average.update(model)\n": "", "    print(": "    average.update(model)\n    print("}),
    ("averaged_model", {"nn.GELU()": "nn.BatchNorm1d(16), nn.GELU()", "fn(0.99)": "fn(0.99), use_buffers=True"}),
    ("cosine_length", {"EPOCHS * len(loader)": "EPOCHS", "        scheduler.step()\n": "", "    print(": "    scheduler.step()\n    print("}),
    ("autocast_of_a_function", {", cache_enabled=False": "", f"            {STEP}": f"            {STEP}            torch.clear_autocast_cache()\n"}),
    ("recomputed_dropout", {"preserve_rng_state=True": "preserve_rng_state=False", "nn.Dropout(0.3)": "nn.LayerNorm(16)"}),
    ("recomputed_dropout", {"use_reentrant=False": "use_reentrant=True", "nn.ReLU(), nn": "nn.BatchNorm1d(16), nn.ReLU(), nn"}),
    ("clip_and_step", {f"{CLIP}        {STEP}": f"{STEP}        {CLIP.replace('1.0', 'torch.inf')}"}),
    ("window_and_epoch", {"ACCUMULATION = 3": "ACCUMULATION = 2"}),
    ("accelerated_window", {"steps=5": "steps=4"}),
    ("skipped_update", {"ACCUMULATION = 2": "ACCUMULATION = 1"}),
    # What is lost in the last batch of an epoch is cleared by the first of the next, and at the end of the run by nothing.
    ("healthy_gradients", {f"        {CLEAR}": "", "        nn.fun": f"        {CLEAR}        nn.fun", "scales[30]": "scales[39]", ", shuffle=True": ""}),
    ("one_optimizer", {"    train_epoch(epoch)\n": f"    train_epoch(epoch)\n    if epoch == 1:\n        {OPTIMIZER}"}),
    ("replaced_tensors", {"prepared(model)\n": "prepared(model).double().float()\n"}),
]


def changed(name: str, changes: Dict[str, str]) -> Path:
    """A copy of a script with other texts in the place of these."""
    text = (THREADS / f"{name}.py").read_text(encoding="utf-8")
    for old, new in changes.items():
        if old not in text:
            raise AssertionError(f"{name}: no {old!r}")
        text = text.replace(old, new)
    path = Path(tempfile.mkdtemp()) / f"{name}.py"
    path.write_text(text, encoding="utf-8")
    return path


class AReport(unittest.TestCase):
    maxDiff = None

    def held(self, script: Path) -> None:
        outcome = recorded(script)
        self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_in_its_right_form_is_held(self) -> None:
        for script in sorted(THREADS.glob("*.py")):
            with self.subTest(script.stem):
                self.held(script)

    def test_in_another_right_form_is_held(self) -> None:
        for name, changes in VARIANTS:
            with self.subTest(name, changes=changes):
                self.held(changed(name, changes))

    def test_with_its_bug_is_broken_by_its_cause(self) -> None:
        for name, bugs in BUGS.items():
            for old, new, invariant, cause in bugs:
                with self.subTest(name, new=new):
                    findings = recorded(changed(name, {old: new}))["findings"]
                    first = findings[0] if findings else {"invariant": "held", "cause": ""}
                    self.assertEqual(first["invariant"], invariant)
                    self.assertIn(cause, first["cause"])

    def test_that_may_be_meant_is_noted(self) -> None:
        for name, old, new, note in NOTED:
            with self.subTest(name, new=new):
                outcome = recorded(changed(name, {old: new}))
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))
                self.assertIn(note, " ".join(outcome["notes"]))


if __name__ == "__main__":
    unittest.main()
