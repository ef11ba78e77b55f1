#!/usr/bin/env bash
# The model that comes with the package: trained on sources whose licences let the weights go out, packed in half precision with its card.
#   bench/ship.sh DATA_ROOT OUTPUT_DIR [SEED]
# OUTPUT_DIR gets the run; text_embedding/shipped gets the packed model. Seeds other than 0 train and score, and pack nothing.
set -euo pipefail
data=$1 out=$2 seed=${3:-0} python=${PYTHON:-.venv/bin/python}
sources=coco=2,coco_extra=3,nli=3,nli_pair=1,wikipedia_sentences=1,wikipedia_articles=1,tatoeba=.7,fever_nli=.3,wiki_split=.5,nli_extra_pair=.3
sources=$sources,disfl_qa=.3,audiocaps=.3,negation_nli=.3,question_sentence=.7,arxiv=.3,medquad=.2
$python -m text_embedding train --preset static --datasets "$sources" --seed "$seed" --data-root "$data" --output-dir "$out/$seed" --cache-dir "$out/cache" --overwrite
$python bench/ship.py "$out/$seed" "$data" $([ "$seed" = 0 ] && echo text_embedding/shipped)
