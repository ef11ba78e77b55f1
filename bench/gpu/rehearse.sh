#!/usr/bin/env bash
# The whole GPU run in small, on a CPU, in a minute or two: prepare, train with a time limit, stop, resume, score, pack and unpack the model.
#   bench/gpu/rehearse.sh DATA_ROOT OUT
set -euo pipefail
data=$1; out=$2; here=$(dirname "$0"); export PYTHONPATH="$here/../.." PYTHON=${PYTHON:-.venv/bin/python} OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
rm -rf "$out"
$PYTHON -m text_embedding prepare --config "$here/rehearse.json" --vocab-size 4000 --datasets mix --max-rows 2000 --data-root "$data" --output-dir "$out/prepared" 2>/dev/null
unset TEXT_EMBEDDING_DATA; export HF_HUB_OFFLINE=1                   # from here on there is no data
small=(--config "$here/rehearse.json" --max-steps 60 --batch-size 64 --learning-rate 3e-3 --eval-every 20 --held-out 100 --datasets flickr30k=5,nli=3,quora=2,coco=1,wiki_split=.5)
"$PYTHON" "$here/speed.py" --minutes 1 --peak 0.05 --prepared "$out/prepared" "${small[@]}" 2>&1 >/dev/null | tail -n 1
LIMIT=5 "$here/run.sh" "$out/prepared" "$out/run" "${small[@]}" 2>"$out/log1"
grep -q 'go on with' "$out/log1" || { echo 'expected the first sitting to stop early' >&2; exit 1; }
LIMIT=600 "$here/run.sh" "$out/prepared" "$out/run" "${small[@]}" 2>"$out/log2"
LIMIT=600 "$here/run.sh" "$out/prepared" "$out/whole" "${small[@]}" >/dev/null 2>"$out/log3"
cmp "$out/run/last/model.safetensors" "$out/whole/last/model.safetensors" && echo 'two sittings and one: the same weights'
"$PYTHON" "$here/shrink.py" pack "$out/run/best_model" "$out/packed"
"$PYTHON" "$here/shrink.py" unpack "$out/packed" "$out/unpacked"
"$PYTHON" -c "import sys; sys.path.insert(0, '$here'); from report import score; score('$out/unpacked', '$out/prepared', ['stsb_dev'])"
"$PYTHON" "$here/finetune_stsb.py" "$out/prepared" "$out/run/best_model" "$out/stsb" 1 3e-4
