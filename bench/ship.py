"""Pack a trained model for the wheel: half precision, no training state, a card with measured numbers.

    .venv/bin/python bench/ship.py RUN DATA_ROOT [FOLDER]

Prints the scores; writes FOLDER (text_embedding/shipped) where it is given. `bench/ship.sh` is the recorded command."""
import datetime, json, shutil, sys
from pathlib import Path

from loguru import logger

from text_embedding.checkpoint import load_checkpoint, save_checkpoint
from text_embedding.data import REGISTRY, load_stsb
from text_embedding.contrast import contrast_sentences, contrast_triplets, evaluate_contrast
from text_embedding.evaluation import evaluate_sts
from text_embedding.inference import load_model

CARD = '''# The model that comes with text_embedding

{what} It was trained from random weights: no pretrained model took part.

| | |
|---|---|
| architecture | `{preset}`: {parameters:,} parameters, {dim} dimensions, up to {context} tokens, lower-cased English |
| file | safetensors, fp16, {megabytes:.1f} MB |
| trained | {date}, {pairs:,} pairs in {seconds:.0f} s on a CPU (`bench/ship.sh DATA_ROOT OUTPUT_DIR`) |
| STS benchmark, Spearman x 100 | dev {dev}, test {test}; dev also chose the step, no row of the benchmark was trained on |
| by genre, test | {genres} |
| contrast set, accuracy x 100 (chance is 50) | {contrast} |

**Data.** Only sources whose terms, as we read them, let trained weights go out under a permissive licence; this is no legal advice. Training rows equal to a sentence of the benchmark's dev or test part were dropped.

| source | weight | licence |
|---|---|---|
{sources}

**Limits.** English only. {limits} It repeats the biases of image captions, Wikipedia and inference examples. It was not tested for any use that decides about people.

**Licence.** The weights: MIT, like the package. The texts keep their own licences, above.
'''
WHAT = dict(static='A text is the mean of its tokens\' vectors, each token of a 16,000-row table.', tiny='Two small transformer blocks on a 16,000-row token table.')
LIMITS = dict(static='It is a bag of words: it cannot see word order, so "the dog bites the man" and "the man bites the dog" are one text to it, and "not" is a word like any other.',
              tiny='It sees word order as far as two small blocks trained for minutes can; do not trust it with negation in long texts.')

def line(r): return f"{r['spearman']:.1f} [{r['low']:.1f}, {r['high']:.1f}]"

def main(run, data_root, folder=None):
    model,tokenizer,info = load_checkpoint(Path(run)/'best_model')
    model.half()
    target = Path(folder) if folder else Path(run)/'packed'
    state = json.loads((Path(run)/'last'/'training_state.json').read_text())
    kept = {k: info[k] for k in ('preset', 'step', 'pairs', 'seconds')} | dict(datasets=info['train_config']['datasets'], seed=info['train_config']['seed'])
    shutil.rmtree(target, ignore_errors=True)
    save_checkpoint(target, model, tokenizer, info=kept)
    ready = load_model(target, device='cpu')
    dev,test = (evaluate_sts(ready.encode, load_stsb(split, data_root)) for split in ('validation', 'test'))
    contrast = evaluate_contrast(ready.encode, contrast_triplets(contrast_sentences(data_root)))
    card = CARD.format(what=WHAT[info['preset']], limits=LIMITS[info['preset']], preset=info['preset'], parameters=ready.model.num_parameters(), dim=ready.dim, context=ready.config.context_length,
        megabytes=sum(f.stat().st_size for f in target.iterdir())/1e6, date=datetime.date.today(), pairs=state['pairs'], seconds=state['seconds'], dev=line(dev), test=line(test),
        genres=', '.join(f'{k} {v:.1f}' for k,v in test['by_genre'].items()), contrast=', '.join(f"{k} {v['accuracy']:.1f}" for k,v in contrast['by_kind'].items()),
        sources='\n'.join(f'| {n} (`{REGISTRY[n].path}`) | {w:g} | {REGISTRY[n].license} |' if n in REGISTRY else f'| {n} | {w:g} | made of the captions above |' for n,w in kept['datasets'].items()))
    unfit = [n for n in kept['datasets'] if n in REGISTRY and not REGISTRY[n].redistributable]
    if unfit: raise SystemExit(f'not to be shipped: {", ".join(unfit)} may not go out')
    (target/'README.md').write_text(card)
    print(card)

if __name__=='__main__':
    logger.remove()
    main(*sys.argv[1:])
