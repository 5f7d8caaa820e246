"""A training loop without a framework. It saves after every second of six steps, in the way that it is told.

    trainer.py OUT WAY [--resume]

atomic            temporary file, fsync, rename, fsync of the folder
in-place          the checkpoint is written over the old one
fresh-start       in place; a damaged checkpoint is taken for none
rename-unsynced   atomic without the first fsync
delete-first      atomic, and the old checkpoint is removed before
"""

import json
import os
import sys

out, way, resume = sys.argv[1], sys.argv[2], "--resume" in sys.argv
checkpoint = os.path.join(out, "last.json")


def save(state):
    if way in ("in-place", "fresh-start"):
        with open(checkpoint, "w") as file:
            json.dump(state, file)
        return
    if way == "delete-first" and os.path.exists(checkpoint):
        os.remove(checkpoint)
    with open(checkpoint + ".tmp", "w") as file:
        json.dump(state, file)
        file.flush()
        if way != "rename-unsynced":
            os.fsync(file.fileno())
    os.rename(checkpoint + ".tmp", checkpoint)
    folder = os.open(out, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def load():
    try:
        with open(checkpoint) as file:
            return json.load(file)
    except FileNotFoundError:
        # Something was written, so this is no first start.
        if way == "delete-first" and os.listdir(out):
            raise
    except ValueError:
        if way != "fresh-start":
            raise
    return {"step": 0, "weight": 0.0}


state = load() if resume else {"step": 0, "weight": 0.0}
while state["step"] < 6:
    state = {"step": state["step"] + 1, "weight": state["weight"] * 0.5 + state["step"]}
    if state["step"] % 2 == 0:
        # Steps that are done again are logged again, in every way: that is no damage.
        with open(os.path.join(out, "log.txt"), "a") as log:
            log.write(f"step {state['step']}\n")
        save(state)
