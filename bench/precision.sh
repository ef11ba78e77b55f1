#!/usr/bin/env bash
# Does a faster path change what a trained model knows? A small encoder, trained for minutes on a CPU, scored on STS-B at every precision.
#     bench/precision.sh DATA_ROOT OUT
set -euo pipefail
mkdir -p "$2"
echo '{"preset": "encoder", "model": {"embd_dim": 256, "num_layers": 4}, "datasets": {"nli": 3, "quora": 1}}' > "$2/options.json"
text-embedding train --config "$2/options.json" --vocab-size 16000 --max-steps 150 --batch-size 128 --eval-every 150 --data-root "$1" --precision fp32 --seed 0 --overwrite --output-dir "$2"
for precision in plain fp32 bf16 int8; do
  text-embedding evaluate --model "$2" --precision $precision --data-root "$1" | grep '^STS-B' | sed "s/^/$precision: /"
done
