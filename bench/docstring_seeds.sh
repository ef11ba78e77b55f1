#!/usr/bin/env bash
# The quick start with three seeds: does the first sentence of a docstring find its own rest?
#   bench/docstring_seeds.sh OUTPUT_DIR
# Prints for each seed MRR@10 and Recall@10 of the model and of BM25, on functions and on packages that were held out, then the mean MRR@10.
set -euo pipefail
out=$1; te="${PYTHON:-.venv/bin/python} -m text_embedding"; mkdir -p "$out"
for seed in 0 1 2; do
    $te train --quick-start --seed $seed --output-dir "$out/docstrings-$seed" --overwrite 2> "$out/log-$seed.txt" | grep -E '^(best|held-out|functions|packages) ' | sed "s/^/seed $seed  /"
done | tee "$out/scores.txt"
awk '$3=="functions" || $3=="packages" {n[$3]++; m[$3]+=$5; b[$3]+=$6} END {for (k in n) printf "mean of %d  %-10s model %.3f  BM25 %.3f\n", n[k], k, m[k]/n[k], b[k]/n[k]}' "$out/scores.txt"
