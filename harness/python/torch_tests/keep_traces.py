"""Records the scripts of the tests, clean and with planted bugs, as golden traces: `python -m torch_tests.keep_traces FOLDER`.

`cargo test` judges them without torch: what a clean script leaves must be held, and each bug must be broken by its invariant.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .test_scripts import BUGS, DECLARED, FORM, SCRIPTS

PACKAGE = Path(__file__).resolve().parent.parent
# The bugs that are kept, by script: enough for each invariant once. The traces of the others would say the same.
KEPT = {"classify": (0, 1, 2, 3, 4, 5, 7), "vision": (1, 3, 4), "adversaries": (0,), "lightning_module": (2,), "trainer_class": (2,)}


def record(script: Path, to: Path, **declared: Any) -> None:
    """Runs a script in an empty folder and keeps its trace."""
    with tempfile.TemporaryDirectory() as folder:
        paths = os.pathsep.join(map(str, (PACKAGE / "traintrue" / "hook", PACKAGE)))
        environment = {**os.environ, "PYTHONPATH": paths, "TRAINTRUE_RECORD": f"{folder}/traces", "OMP_NUM_THREADS": "1"}
        environment["TRAINTRUE_DECLARED"] = json.dumps(declared)
        subprocess.run([sys.executable, str(script)], cwd=folder, env=environment, check=True, capture_output=True)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(folder) / "traces" / "run.jsonl", to)


def main(folder: Path) -> None:
    """Writes FOLDER/held/SCRIPT.jsonl and FOLDER/broken/FAMILY/NAME/SCRIPT-N.jsonl, FAMILY/NAME being the invariant."""
    for name, bugs in BUGS.items():
        record(SCRIPTS / f"{name}.py", folder / "held" / f"{name}.jsonl")
        text = (SCRIPTS / f"{name}.py").read_text(encoding="utf-8")
        for number in KEPT.get(name, ()):
            old, new, invariant, _cause = bugs[number]
            path = Path(tempfile.mkdtemp()) / f"{name}.py"
            path.write_text(text.replace(old, new, 1), encoding="utf-8")
            record(path, folder / "broken" / invariant / f"{name}-{number}.jsonl")
    old, new, *_ = DECLARED[2]
    path = Path(tempfile.mkdtemp()) / "characters.py"
    path.write_text((SCRIPTS / path.name).read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    record(path, folder / "broken" / "loop" / "rate" / "characters.jsonl", schedule={"name": "cosine", **FORM})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
