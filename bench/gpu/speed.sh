#!/usr/bin/env bash
# Encode and training speed on a GPU, predictions beside measurements; run the same line again to go on:
#   [LIMIT=540] [WHEELS=prepared] bench/gpu/speed.sh OUT [--device cpu --rehearse]
# A rehearsal on the CPU first (a minute), then six measurements, each one JSON file in OUT; those that are there are not made again.
# LIMIT: seconds of this sitting; a measurement that may not fit waits for the next one. WHEELS: a folder of wheels, such as loguru's.
# A measurement that fails leaves OUT/NAME.log and does not keep the others from running; the same line tries it again.
set -uo pipefail
out=$1; shift; here=$(dirname "$0"); python=${PYTHON:-python3}; limit=${LIMIT:-540}; log=$out/times.txt; mkdir -p "$out"
for wheel in "${WHEELS:-}"/*.whl; do [ -e "$wheel" ] && export PYTHONPATH="$wheel${PYTHONPATH:+:$PYTHONPATH}"; done
export PYTHONPATH="$here/../..:$here${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
rehearse() { for s in "encode_speed.py --kind short" "encode_speed.py --kind long --t4" "train_speed.py"; do $python $here/$s --device cpu --rehearse --out "$out/rehearsal" || return 1; done; }
if [ ! -e "$out/rehearsal/train.json" ]; then
    rehearse >"$out/rehearsal.log" 2>&1 || { echo "the rehearsal failed: $out/rehearsal.log"; tail -n 5 "$out/rehearsal.log"; exit 1; }
    echo "rehearsed: ${SECONDS} s"
fi
# name, seconds at most, script and options: 1440 seconds in all
while read -r name most script options; do
    [ -e "$out/$name.json" ] && continue
    if [ $((SECONDS + most)) -gt "$limit" ]; then echo "to be continued: $name needs up to $most s"; waiting=1; continue; fi
    start=$SECONDS
    timeout "$most" $python "$here/$script" $options --out "$out" "$@" >"$out/$name.log" 2>&1 </dev/null && echo "$name: $((SECONDS-start)) s" | tee -a "$log" || { echo "$name failed or took more than $most s: $out/$name.log"; tail -n 3 "$out/$name.log"; }
done <<'END'
encode_short 300 encode_speed.py --kind short
train 240 train_speed.py
encode_long 270 encode_speed.py --kind long
t4_encode_short 210 encode_speed.py --kind short --t4
t4_train 210 train_speed.py --t4
t4_encode_long 210 encode_speed.py --kind long --t4
END
$python "$here/report_speed.py" "$out" >"$out/report.md" && echo "$out/report.md"
[ -z "${waiting:-}" ] && echo "finished" || echo "run the same line again"
