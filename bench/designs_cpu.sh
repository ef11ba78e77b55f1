#!/usr/bin/env bash
# Train `tiny` (from a static checkpoint) and `ada_small` for a few minutes on a CPU, and evaluate them:
#   bench/designs_cpu.sh DATA_ROOT OUTPUT_DIR        (after bench/static_seeds.sh with the same arguments)
set -euo pipefail
data=$1; out=$2; te="${PYTHON:-.venv/bin/python} -m text_embedding"
$te train --preset tiny --warm-start "$out/static-0/best_model" --max-steps 60 --eval-every 20 --datasets mix --data-root "$data" --output-dir "$out/tiny" --cache-dir "$out/cache-0" --overwrite 2>&1 | tail -n 1
$te evaluate --model "$out/tiny" --data-root "$data"
$te train --preset ada_small --batch-size 64 --max-steps 30 --eval-every 15 --learning-rate 3e-4 --max-length 64 --datasets mix --data-root "$data" --output-dir "$out/ada_small" --cache-dir "$out/cache-ada" --overwrite 2>&1 | tail -n 1
$te evaluate --model "$out/ada_small" --data-root "$data"
