#!/bin/sh
# The small model's micro-batch, here and in eager PyTorch: three turns each, one after the other, on one core each time.
# Prints microseconds, and how many times as fast this one is. PYTHON names an interpreter that has torch.
set -eu
here=$(dirname "$0")
target=${CARGO_TARGET_DIR:-$here/../../../target}
estimates=$target/criterion/micro_batch/small/new/estimates.json

for turn in 1 2 3; do
    cargo bench --quiet --manifest-path "$here/../Cargo.toml" --bench micro_batch -- \
        --quiet --warm-up-time 1 --measurement-time 5 'micro_batch/small' >&2
    ours="${ours:-} $("${PYTHON:-python3}" - "$estimates" <<'PY'
import json, sys
print(json.load(open(sys.argv[1]))["median"]["point_estimate"] / 256 / 1e3)
PY
)"
    theirs="${theirs:-} $("${PYTHON:-python3}" "$here/pytorch_micro_batch.py")"
done

"${PYTHON:-python3}" - "$ours" "$theirs" <<'PY'
import statistics, sys
ours, theirs = ([float(number) for number in one.split()] for one in sys.argv[1:])
for name, numbers in (("traintrue", ours), ("pytorch", theirs)):
    print(f"{name:10}", *(f"{number:9.1f}" for number in numbers), "us a micro-batch")
print(f"ratio of medians {statistics.median(theirs) / statistics.median(ours):.2f}")
PY
