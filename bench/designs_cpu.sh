#!/usr/bin/env bash
# Train `ada_small` for two minutes on a CPU, and evaluate it:
#   bench/designs_cpu.sh DATA_ROOT OUTPUT_DIR
set -euo pipefail
data=$1; out=$2; te="${PYTHON:-.venv/bin/python} -m text_embedding"
$te train --preset ada_small --batch-size 64 --max-steps 30 --eval-every 15 --learning-rate 3e-4 --max-length 64 --datasets mix --data-root "$data" --output-dir "$out/ada_small" --cache-dir "$out/cache-ada" --overwrite 2>&1 | tail -n 1
$te evaluate --model "$out/ada_small" --data-root "$data"
