"""Writes the goldens of this folder, or of the folder that is named: `python generate.py [FOLDER]`.

Needs what requirements.txt pins. It starts itself again with one thread and a fixed order of sets, so that two runs give
the same bytes.
"""

import os
import sys
from pathlib import Path

FIXED = {
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "OMP_NUM_THREADS": "1",
    "CUDA_VISIBLE_DEVICES": "",
    "HF_HUB_OFFLINE": "1",
}


def main(folder: Path):
    import torch

    import optimizer
    import pointwise
    import schedules
    import training

    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)
    for golden in (pointwise, schedules, optimizer, training):
        golden.generate(folder)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in FIXED.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | FIXED)
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
