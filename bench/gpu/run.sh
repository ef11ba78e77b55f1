#!/usr/bin/env bash
# Train and evaluate from prepared data alone; run the same line again to go on:
#   [LIMIT=540] [MINUTES=25] bench/gpu/run.sh PREPARED OUT [options of `text-embedding train`]
# LIMIT: seconds of training and evaluating in this sitting. MINUTES: length of the whole run, turned into a number of steps
# by a short measurement (else: --max-steps among the options, or the recipe's). OUT gets best_model/, last/, history.json,
# history.png, curves.png and result.json; STS-B test is scored once, when the last step is done.
set -euo pipefail
prepared=$1; out=$2; shift 2; here=$(dirname "$0"); python=${PYTHON:-python3}
for wheel in "$prepared"/*.whl; do [ -e "$wheel" ] && export PYTHONPATH="$wheel${PYTHONPATH:+:$PYTHONPATH}"; done
export PYTHONPATH="$here/../..${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
if [ -e "$out/last" ] || [ -e "$out/last.previous" ]; then
    $python -m text_embedding train --resume-from "$out/last" --prepared "$prepared" --output-dir "$out" --max-seconds "${LIMIT:-540}"
else
    steps=(); [ -z "${MINUTES:-}" ] || steps=(--max-steps "$($python "$here/speed.py" --minutes "$MINUTES" --prepared "$prepared" "$@")")
    $python -m text_embedding train --prepared "$prepared" --output-dir "$out" --held-out 500 --max-seconds "${LIMIT:-540}" "$@" "${steps[@]}"
fi
$python "$here/report.py" "$prepared" "$out"
