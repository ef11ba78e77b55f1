#!/usr/bin/env bash
# Read, clean and tokenise the training data once, into directories that a machine without data or network can train from:
#   bench/gpu/prepare.sh DATA_ROOT PREPARED [PRESET]
# DATA_ROOT is a local copy of the data sets in hub layout; PRESET is encoder (default) or ada_small, whose texts end in [EOS].
# PREPARED also gets the wheel of loguru (pure Python), which a GPU image may lack: run.sh puts it on PYTHONPATH.
set -euo pipefail
data=$1; out=$2; preset=${3:-encoder}; python=${PYTHON:-.venv/bin/python}
# the course's mixture, and all other pairs of whole sentences: more of everything, since a transformer from random weights is short of data
more=coco_extra=1,nli_pair=1,wikipedia_articles=1,tatoeba=.5,nli_extra=.3,nli_extra_pair=.7,negation_nli=.3,nli_other=.1
more=$more,clotho=.3,audiocaps=.2,flickr8k=.1,qqp=.2,parade=.1,paraqa=.1,parasci=.3,news_headlines=.3,question_sentence=.3,arxiv=.3,disfl_qa=.1
$python -m text_embedding prepare --preset "$preset" --datasets "mix,$more" --data-root "$data" --output-dir "$out" --overwrite
$python -m pip download -q --no-deps --only-binary=:all: -d "$out" loguru || echo 'loguru was not downloaded: the other machine must have it' >&2
du -sh "$out"
