"""Bugs of three loops that are no language model: texts that are replaced, and the finding that must come first."""

from __future__ import annotations

from typing import Dict, List, NamedTuple, Tuple


class Bug(NamedTuple):
    """A bug, the invariant that must break first, and a part of its cause."""

    changes: List[Tuple[str, str]]
    invariant: str
    cause: str
    # What is declared of the loop; or `cut`, for a bug of the resume.
    how: str = ""


BUGS: Dict[str, List[Bug]] = {
    "sequences": [
        Bug([('                optimizer.zero_grad()\n                step += 1', '                step += 1')], 'loop/window', 'zero_grad() is missing'),
        Bug([('            logits = model(src, tgt[:, :-1])\n            loss =', '            optimizer.zero_grad()\n            logits = model(src, tgt[:, :-1])\n            loss =')], 'loop/window', 'zero_grad'),
        Bug([('(loss / window).backward()', 'loss.backward()')], 'loop/loss-scale', 'summed, not averaged'),
        Bug([('    for epoch in range(start, args.epochs):\n        model.train()\n', '    model.train()\n    for epoch in range(start, args.epochs):\n')], 'loop/mode', 'model.train()'),
        Bug([('                nn.utils.clip_grad_norm_(model.parameters(), args.clip)\n                optimizer.step()\n', '                optimizer.step()\n                nn.utils.clip_grad_norm_(model.parameters(), args.clip)\n')], 'loop/clip', 'after optimizer.step()'),
        Bug([('(loss / window).backward()\n', '(loss / window).backward()\n            nn.utils.clip_grad_norm_(model.parameters(), args.clip)\n'), ('                nn.utils.clip_grad_norm_(model.parameters(), args.clip)\n', '')], 'loop/clip', 'every micro-batch'),
        Bug([('                scheduler.step()\n', '')], 'loop/schedule', 'never runs'),
        Bug([('"weight_decay": 0.0}', '"weight_decay": 0.01}')], 'loop/decay', 'group that decays', '--decay 0.01 --no-decay *bias --no-decay *norm*'),
        Bug([('        model.train()\n        running', '        model.train()\n        torch.manual_seed(args.seed)\n        running')], 'loop/samples', 'seeded anew'),
        Bug([('    model.eval()\n    total, tokens', '    model.eval()\n    torch.manual_seed(0)\n    total, tokens')], 'loop/samples', 'evaluation seeds'),
        Bug([('for i, (src, tgt) in enumerate(train_loader):\n', "for i in range(len(train_loader)):\n            src, tgt = batch0 = locals().get('batch0') or next(iter(train_loader))\n")], 'loop/samples', 'again and again'),
        Bug([('    model.eval()\n    total', '    total')], 'loop/evaluation', 'model.eval()'),
        Bug([('groups = [{"params": decay, "weight_decay": 0.01}, {"params": no_decay, "weight_decay": 0.0}]', 'groups = [{"params": decay, "weight_decay": 0.01}]')], 'loop/optimizer', 'a group is missing'),
        Bug([('        model.train()\n        running', '        model.train()\n        optimizer = torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.98), eps=1e-9)\n        scheduler.optimizer = optimizer\n        running')], 'loop/optimizer', 'begin anew'),
        Bug([('        model.train()\n        running', '        model.train()\n        optimizer = torch.optim.AdamW(groups, lr=5e-3, betas=(0.9, 0.98), eps=1e-9)\n        running')], 'loop/optimizer', 'begin anew'),
        Bug([('if (i + 1) % args.accum == 0 or', 'if i % args.accum == 0 or')], 'loop/window', 'step % 2 == 0'),
        Bug([('        scheduler.load_state_dict(state["scheduler"])\n', '')], 'seam/identical', 'schedule', 'cut'),
        Bug([('        torch.set_rng_state(state["rng"])\n', '')], 'seam/identical', 'seeds', 'cut'),
        Bug([('        optimizer.load_state_dict(state["optimizer"])\n', '')], 'seam/identical', 'optimizer', 'cut'),
        Bug([('state["epoch"] + 1, state', 'state["epoch"], state')], 'seam/identical', '', 'cut'),
    ],
    "pictures": [
        Bug([('                optimizer.zero_grad()\n', '')], 'loop/window', 'zero_grad() is missing'),
        Bug([('            loss.backward()\n', '            optimizer.zero_grad()\n            loss.backward()\n')], 'loop/window', 'zero_grad'),
        Bug([(' or i + 1 == len(train_loader)', '')], 'loop/window', 'the last 2 micro-batches of an epoch'),
        Bug([('criterion(model(x), y) / window\n', 'criterion(model(x), y)\n')], 'loop/loss-scale', 'summed, not averaged'),
        Bug([('        model.train()\n', '        if epoch == 0:\n            model.train()\n')], 'loop/mode', 'model.train()'),
        Bug([('    model.eval()\n', '')], 'loop/evaluation', 'model.eval()'),
        Bug([('            loss.backward()\n', '            loss.backward()\n            nn.utils.clip_grad_norm_(model.parameters(), 2.0)\n')], 'loop/clip', 'every micro-batch'),
        Bug([('                nn.utils.clip_grad_norm_(model.parameters(), 2.0)\n                optimizer.step()\n', '                optimizer.step()\n                nn.utils.clip_grad_norm_(model.parameters(), 2.0)\n')], 'loop/clip', 'after optimizer.step()'),
        Bug([('(no_decay if p.ndim <= 1 else decay)', '(decay if p.ndim <= 1 else no_decay)')], 'loop/decay', "each other's decay"),
        Bug([('(no_decay if p.ndim <= 1 else decay)', '(decay if p.ndim <= 1 else no_decay)')], 'loop/decay', 'does not decay', '--decay 0.0005 --no-decay *.bias --no-decay *bn* --no-decay stem.1.* --no-decay *.down.1.*'),
        Bug([(', {"params": no_decay, "weight_decay": 0.0}]', ']')], 'loop/optimizer', 'a group is missing'),
        Bug([('        model.train()\n', '        torch.manual_seed(args.seed)\n        model.train()\n')], 'loop/samples', 'seeded anew'),
        Bug([('            dy, dx =', '            torch.manual_seed(i)\n            dy, dx =')], 'loop/evaluation', 'set back to the seed 17'),
        Bug([('            running += loss.item() * window\n', '            running += loss.item() * window\n            ema.update_parameters(model)\n')], 'loop/average', 'every micro-batch'),
        Bug([('        running = 0.0\n', "        optimizer = torch.optim.SGD(param_groups(model, args.weight_decay), lr=optimizer.param_groups[0]['lr'], momentum=0.9, nesterov=True)\n        running = 0.0\n")], 'loop/optimizer', 'begin anew'),
        Bug([('        ema.load_state_dict(ckpt["ema"])\n', '')], 'seam/identical', 'average of the weights', 'cut'),
        Bug([('        optimizer.load_state_dict(ckpt["optimizer"])\n', '')], 'seam/identical', 'optimizer', 'cut'),
        Bug([('        scheduler.load_state_dict(ckpt["scheduler"])\n', '')], 'seam/identical', 'schedule', 'cut'),
        Bug([('        torch.set_rng_state(ckpt["rng"])\n', '')], 'seam/identical', '', 'cut'),
        Bug([('"epoch": epoch + 1', '"epoch": epoch')], 'seam/identical', 'trains from the beginning again', 'cut'),
        Bug([('model.load_state_dict(ckpt["model"])', 'model.load_state_dict({k[7:]: v for k, v in ckpt["ema"].items() if k != "n_averaged"})')], 'seam/identical', 'averaged weights', 'cut'),
    ],
    "diffusion": [
        Bug([('                optimizer.zero_grad(set_to_none=True)\n', '')], 'loop/window', 'zero_grad() is missing'),
        Bug([('(loss / ACCUM).backward()', 'loss.backward()')], 'loop/loss-scale', 'summed, not averaged'),
        Bug([('if (i + 1) % ACCUM == 0:', 'if i % ACCUM == 0:')], 'loop/window', 'step % 4 == 0'),
        Bug([('                nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n', ''), ('(loss / ACCUM).backward()\n', '(loss / ACCUM).backward()\n            nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n')], 'loop/clip', 'every micro-batch'),
        Bug([('(no_decay if p.ndim == 1', '(no_decay if p.ndim > 1')], 'loop/decay', "each other's decay"),
        Bug([('        model.train()\n', '        torch.manual_seed(args.seed)\n        model.train()\n')], 'loop/samples', 'seeded anew'),
        Bug([('                update_ema(ema, model, min(0.99, (1 + step) / (10 + step)))\n', '            update_ema(ema, model, min(0.99, (1 + step) / (10 + step)))\n')], 'loop/average', 'every micro-batch'),
        Bug([(', {"params": no_decay, "weight_decay": 0.0}]', ']')], 'loop/optimizer', 'a group is missing'),
        Bug([('                nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n                optimizer.step()\n', '                optimizer.step()\n                nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n')], 'loop/clip', 'after optimizer.step()'),
        Bug([('    generator, total, count = torch.Generator().manual_seed(1234), 0.0, 0\n', '    generator, total, count = torch.manual_seed(1234), 0.0, 0\n')], 'loop/samples', 'seeded anew'),
        Bug([('samples = ema.sample(', 'samples = model.sample(')], 'loop/evaluation', ''),
        Bug([('"ema": ema.state_dict()', '"ema": model.state_dict()')], 'seam/identical', 'average of the weights', 'cut'),
        Bug([('        torch.set_rng_state(state["rng"])\n', '')], 'seam/identical', 'seeds its generators', 'cut'),
        Bug([('        optimizer.load_state_dict(state["optimizer"])\n', '')], 'seam/identical', 'optimizer', 'cut'),
        Bug([('        ema.load_state_dict(state["ema"])\n', '')], 'seam/identical', 'average of the weights', 'cut'),
        Bug([('state["epoch"] + 1, state["step"]', 'state["epoch"] + 1, 0')], 'seam/identical', 'average of the weights', 'cut'),
        Bug([('state["epoch"] + 1, state["step"]', 'state["epoch"], state["step"]')], 'seam/identical', '', 'cut'),
        Bug([('        scheduler.load_state_dict(state["scheduler"])\n', '')], 'seam/identical', 'schedule', 'cut'),
        Bug([('        torch.save({"model": model.state_dict()', '        torch.save({"model": before'), ('                optimizer.step()\n', '                before = copy.deepcopy(model.state_dict())\n                optimizer.step()\n')], 'seam/identical', '', 'cut'),
    ],
}  # fmt: skip
