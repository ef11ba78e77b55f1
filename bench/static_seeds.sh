#!/usr/bin/env bash
# Train and evaluate the static preset on the course's mixture with three seeds:
#   bench/static_seeds.sh DATA_ROOT OUTPUT_DIR
# DATA_ROOT is a local copy of the data sets in hub layout. Prints one line per seed and split.
set -euo pipefail
data=$1; out=$2; te="${PYTHON:-.venv/bin/python} -m text_embedding"
for seed in 0 1 2; do
    $te train --preset static --datasets mix --temperature 0.06 --no-hard-negatives --data-root "$data" --seed $seed --output-dir "$out/static-$seed" --cache-dir "$out/cache-$seed" --overwrite 2>&1 | tail -n 1
    $te evaluate --model "$out/static-$seed" --data-root "$data" | sed "s/^/seed $seed  /"
done
