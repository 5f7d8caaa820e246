"""Scripts of many styles, recorded without a line of glue: clean ones are held, and each planted bug is broken by its cause.

`TRAINTRUE` in the environment names the command; by default it is on the path. `SEEDS` says how many seeds a clean script
is run with (default 2).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Sequence, Tuple

COMMAND = os.environ.get("TRAINTRUE", "traintrue")
SEEDS = int(os.environ.get("SEEDS", "2"))
SCRIPTS = Path(__file__).resolve().parent / "scripts"

# A bug: the text that is replaced, the text in its place, the invariant that must break, and a part of its cause.
Bug = Tuple[str, str, str, str]

BUGS: Dict[str, List[Bug]] = {
    "classify": [
        ("            optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("if (index + 1) % ACCUMULATION == 0", "if index % ACCUMULATION == 0", "loop/window", "micro-batch"),
        (" / ACCUMULATION\n        loss", "\n        loss", "loop/loss-scale", "not averaged"),
        ("    model.train()\n", "    model.eval()\n", "loop/mode", "model.train()"),
        ("for epoch in range(EPOCHS):\n", "for epoch in range(EPOCHS):\n    order.manual_seed(7)\n", "loop/samples", "seeded anew"),
        ("T_max=updates", "T_max=updates * ACCUMULATION", "loop/schedule", "micro-batches"),
        ("            scheduler.step()\n            optimizer.zero_grad()\n", "            optimizer.zero_grad()\n        scheduler.step()\n", "loop/schedule", "micro-batch"),
        ("        loss.backward()\n", "        loss.backward()\n        nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n", "loop/clip", "micro-batch"),
        ("CosineAnnealingLR(optimizer, T_max=updates)", "LambdaLR(optimizer, lambda step: max(0.0, 1 - step / 6))", "loop/schedule", "change nothing"),
        ("CosineAnnealingLR(optimizer, T_max=updates)", "SequentialLR(optimizer, [torch.optim.lr_scheduler.LinearLR(optimizer, 0.1, 1.0, 3), torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, updates * ACCUMULATION - 3)], [3])", "loop/schedule", "micro-batches"),
        ("        loss.backward()\n", "        (loss * 0).backward()\n", "loop/learns", "every gradient is exactly 0"),
        ("    with torch.no_grad():\n", "    for batch, labels in [*held_out, *held_out]:\n        criterion(model(batch), labels).backward()\n    with torch.no_grad():\n", "loop/mode", "of an evaluation run a backward pass"),
    ],
    "characters": [
        ("    optimizer.zero_grad(set_to_none=True)\n", "", "loop/window", "zero_grad"),
        ("        loss = loss / ACCUMULATION\n", "", "loop/loss-scale", "not averaged"),
        ("    model.train()\n    return", "    return", "loop/mode", "model.train()"),
        ("        tokens, targets = crop()\n        loss", "        loss", "loop/samples", "again"),
        ("    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizer.step()\n", "    optimizer.step()\n    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n", "loop/clip", "after"),
    ],
    "trainer_class": [
        ("            self.model.zero_grad(set_to_none=True)\n", "", "loop/window", "zero_grad"),
        ("        trainer.model.train()\n        print", "        print", "loop/mode", "evaluation"),
        ("                row, total = next(batches)\n            except", "                row, total = kept = vars(self).setdefault('kept', None) or next(batches)\n                self.kept = kept\n            except", "loop/samples", "again"),
    ],
    "vision": [
        ("        optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("    average.swap_out(model)\n", "", "loop/evaluation", "averaged"),
        ("        average.update(model)\n", "", "loop/average", "swapped in for evaluations never change"),
        ("    model.train()\n    for", "    for", "loop/mode", "evaluation"),
        ("    model.eval()\n", "", "loop/evaluation", "eval()"),
        ("        train(model, loader, optimizer, average)\n", "        optimizer = torch.optim.Adadelta(model.parameters(), lr=optimizer.param_groups[0]['lr'])\n        train(model, loader, optimizer, average)\n", "loop/optimizer", "anew"),
    ],
    "adversaries": [
        ("        generator.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("        discriminator.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("        of_generator.step()\n", "", "loop/optimizer", "never runs"),
        ("for epoch in range(3):\n", "for epoch in range(3):\n    torch.manual_seed(3)\n", "loop/samples", "seeded anew"),
    ],
    "autoencoder": [
        ("        optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("    model.train()\n", "", "loop/mode", "evaluation"),
        ("    with torch.no_grad():\n", "    torch.manual_seed(0)\n    with torch.no_grad():\n", "loop/samples", "the evaluation seeds"),
    ],
    "mixed_precision": [
        ("            loss /= len(window)\n", "", "loop/loss-scale", "not averaged"),
        ("        scaler.unscale_(optimizer)\n", "", "loop/clip", "unscale_"),
        ("        optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
    ],
    "transformers_trainer": [
        ("Trainer(model, arguments", "class Frozen(Trainer):\n    def training_step(self, model, *rest):\n        loss = super().training_step(model, *rest)\n        model.eval()\n        model.train = lambda *_: model\n        return loss\n\n\nFrozen(model, arguments", "loop/mode", "model.train()"),
        ("Trainer(model, arguments", "class Twice(Trainer):\n    def training_step(self, model, *rest):\n        loss = super().training_step(model, *rest)\n        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n        return loss\n\n\nTwice(model, arguments", "loop/clip", "micro-batch"),
    ],
    "accelerated": [
        ("            optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("    model.train()\n", "", "loop/mode", "evaluation"),
        ("total_steps=3 * 5 + 1", "total_steps=3 * 19 + 1", "loop/schedule", "micro-batches"),
        ("            if accelerator.sync_gradients:\n                accelerator.clip", "            if True:\n                torch.nn.utils.clip", "loop/clip", "micro-batch"),
    ],
    "lightning_module": [
        ("    def validation_step(self, batch, _index):\n", "    def on_validation_model_train(self):\n        pass\n\n    def validation_step(self, batch, _index):\n", "loop/mode", "model.train()"),
        ("T_max=15", "T_max=57", "loop/schedule", "micro-batches"),
        ("    def configure_optimizers", "    def optimizer_zero_grad(self, *_):\n        pass\n\n    def configure_optimizers", "loop/window", "zero_grad"),
    ],
    "adapters": [
        ("        optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("            (loss / tokens).backward()", "            (loss / (batch[:, 1:] != 0).sum()).backward()", "loop/loss-scale", "not averaged"),
    ],
    "actor_critic": [
        ("            optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("            loss.backward()\n            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)\n            optimizer.step()\n", "            loss.backward()\n            optimizer.step()\n            nn.utils.clip_grad_norm_(agent.parameters(), 0.5)\n", "loop/clip", "after"),
        ("Adam(agent.parameters(), lr", "Adam([*agent.body.parameters(), *agent.actor.parameters()], lr", "loop/optimizer", "critic"),
        ("    for _ in range(3):\n", "    optimizer = torch.optim.Adam(agent.parameters(), lr=3e-3)\n    for _ in range(3):\n", "loop/optimizer", "anew"),
    ],
    "followed": [
        ("        self.optimizer.zero_grad()\n", "", "loop/window", "zero_grad"),
        ("        loss.backward()\n        self.optimizer.step()\n", "        self.optimizer.step()\n        loss.backward()\n", "loop/window", ""),
    ],
}  # fmt: skip

# Other right ways to write the classifier: the texts that are replaced, and those in their places.
DIVIDED = " / ACCUMULATION\n        loss.backward()"
VARIANTS: List[Dict[str, str]] = [
    {DIVIDED: "\n        loss.backward(torch.tensor(1 / ACCUMULATION))"},
    {DIVIDED: "\n        torch.autograd.backward([loss], [torch.tensor(1 / ACCUMULATION)])"},
    {DIVIDED: "\n        loss.register_hook(lambda it: it / ACCUMULATION)\n        loss.backward()"},
    {DIVIDED: "\n        loss.backward()", "criterion =": "for it in model.parameters():\n    it.register_hook(lambda gradient: gradient / ACCUMULATION)\ncriterion ="},
    # SGD without momentum has no state that could begin anew.
    {"AdamW": "SGD", "    model.train()\n": "    model.train()\n    optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)\n", "            scheduler.step()\n": ""},
    # A curriculum: the later epochs in an order that was chosen.
    {"    model.train()\n": "    model.train()\n    if epoch == 1:\n        loader = DataLoader(train, batch_size=4, sampler=list(range(77, -1, -1)))\n"},
]  # fmt: skip

FORM: Dict[str, Any] = {"updates": 24, "warmup": 4, "rising": "(u+1)/(W+1)", "minimum": 0.1}
RATES = "cosine({})".format(", ".join(f"{name}={value}" for name, value in FORM.items()))
# Schedules that are declared of the characters' loop, whose rates are set by hand: a change of the script, the schedule, and
# a part of the cause; none where the loop is held.
DECLARED: List[Tuple[str, str, str, str]] = [
    ("", "", RATES, ""),
    ("", "", "{script}:rate", ""),
    ("rate(step)\n", "rate(step + 1)\n", RATES, "one step ahead"),
    ("rate(step)\n", "rate(step) / 2\n", RATES, "0.5000 times"),
    ("rate(step)\n", "rate(step * ACCUMULATION)\n", RATES, "at every micro-batch"),
    ("rate(step)\n", "PEAK\n", RATES, "never changes"),
    ("", "", "linear(updates=24, warmup=4)", "neither"),
]


def recorded(script: Path, *arguments: str, options: Sequence[str] = ()) -> Dict[str, Any]:
    """The outcome of a recorded script. The script is run from a folder of its own."""
    return recorded_command([sys.executable, str(script), *arguments], options)[0]


def recorded_command(command: Sequence[str], options: Sequence[str] = ()) -> List[Dict[str, Any]]:
    """The outcomes of a recorded command, one a process that trains."""
    return report_of(command, options)["outcomes"]


def report_of(command: Sequence[str], options: Sequence[str] = ()) -> Dict[str, Any]:
    """The report of a recorded command. It is run from a folder of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = [COMMAND, "record", "--out", f"{folder}/traces", "--format", "json", *options, "--", *command]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, env=environment)
    # The script's own output comes first.
    at = done.stdout.find('{\n  "schema"')
    if at < 0:
        raise AssertionError(f"{words}: no report\n{done.stdout}\n{done.stderr}")
    return json.loads(done.stdout[at:])


class AScript(unittest.TestCase):
    maxDiff = None

    def test_that_is_right_is_held(self) -> None:
        for name in BUGS:
            for seed in range(SEEDS):
                with self.subTest(name, seed=seed):
                    outcome = recorded(SCRIPTS / f"{name}.py", str(seed))
                    self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_that_is_right_in_another_way_is_held(self) -> None:
        original = (SCRIPTS / "classify.py").read_text(encoding="utf-8")
        for changes in VARIANTS:
            with self.subTest(changes=changes):
                text = original
                for old, new in changes.items():
                    self.assertIn(old, text)
                    text = text.replace(old, new)
                path = Path(tempfile.mkdtemp()) / "classify.py"
                path.write_text(text, encoding="utf-8")
                outcome = recorded(path)
                self.assertEqual((outcome["verdict"], outcome["findings"]), ("held", []))

    def test_with_a_planted_bug_is_broken_by_its_cause(self) -> None:
        for name, bugs in BUGS.items():
            text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
            for number, (old, new, invariant, cause) in enumerate(bugs):
                with self.subTest(name, bug=number, new=new):
                    self.assertIn(old, text)
                    path = Path(tempfile.mkdtemp()) / f"{name}.py"
                    path.write_text(text.replace(old, new, 1), encoding="utf-8")
                    findings = recorded(path)["findings"]
                    first = findings[0] if findings else {"invariant": "held", "cause": ""}
                    self.assertEqual(first["invariant"], invariant)
                    self.assertIn(cause, first["cause"])

    def test_is_held_to_a_declared_schedule_rate_by_rate(self) -> None:
        original = SCRIPTS / "characters.py"
        # The rate alone: a declared file is imported, and must not train.
        text = original.read_text(encoding="utf-8")
        alone = Path(tempfile.mkdtemp()) / "rates.py"
        alone.write_text("import math\nSTEPS, WARMUP, PEAK, LOWEST = 24, 4, 1e-2, 1e-3\n" + text[text.index("def rate") : text.index("@torch")])
        for old, new, schedule, cause in DECLARED:
            with self.subTest(new=new, schedule=schedule):
                path = Path(tempfile.mkdtemp()) / "characters.py"
                path.write_text(text.replace(old, new, 1), encoding="utf-8")
                options = ["--schedule", schedule.replace("{script}", str(alone))]
                findings = recorded(path, options=options)["findings"]
                first = findings[0] if findings else {"invariant": "", "cause": ""}
                self.assertEqual(first["invariant"], "loop/rate" if cause else "")
                self.assertIn(cause, first["cause"])

    def test_sees_the_same_of_itself_as_alone(self) -> None:
        script = SCRIPTS / "looks_at_itself.py"
        with tempfile.TemporaryDirectory() as folder:
            words = [sys.executable, str(script)]
            alone, beside = (
                subprocess.run([*before, *words], cwd=folder, capture_output=True, text=True, check=True)
                for before in ([], [COMMAND, "record", "--out", f"{folder}/traces", "--"])
            )
        self.assertTrue(beside.stdout.startswith(alone.stdout), beside.stdout)
        self.assertIn("✓ held", beside.stdout)


if __name__ == "__main__":
    unittest.main()
