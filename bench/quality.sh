#!/usr/bin/env bash
# The recipes of `static` and `tiny` on the course's mixture with three seeds, compared:
#   bench/quality.sh DATA_ROOT OUTPUT_DIR
# DATA_ROOT is a local copy of the data sets in hub layout. tiny-SEED/static is the static model that tiny-SEED started from. Ends with the JSON of bench/compare.py.
set -euo pipefail
data=$1 out=$2 python=${PYTHON:-.venv/bin/python} a= b=
for seed in 0 1 2; do
    $python -m text_embedding train --preset tiny --data-root "$data" --seed $seed --output-dir "$out/tiny-$seed" --cache-dir "$out/cache" --overwrite 2>&1 | tail -n 1
    a=$a,$out/tiny-$seed b=$b,$out/tiny-$seed/static
done
$python bench/compare.py "$data" "${a#,}" "${b#,}"
