"""One change at a time to the static preset on the course's mixture: the rows of LOG.md.

    .venv/bin/python bench/static_ablation.py DATA_ROOT OUTPUT_DIR CHANGE SEED

CHANGE is a key of CHANGES. Prints dev after every 250 steps, the seconds of training, and test after the last step."""
import sys

import torch
from loguru import logger

from text_embedding import training
from text_embedding.data import MIX, PairStream, load_stsb
from text_embedding.evaluation import evaluate_sts

MORE = dict(MIX, coco_extra=1.)
CHANGES = dict(
    base=dict(), no_hard=dict(hard_negatives=False), symmetric=dict(symmetric=1.0), random_batches=dict(jitter=None),
    more=dict(datasets=dict(MORE, tatoeba=.5)), no_hard_more=dict(hard_negatives=False, datasets=dict(MORE, tatoeba=.5)),
    warm_06=dict(hard_negatives=False, temperature=0.06, datasets=MORE), warm_07=dict(hard_negatives=False, temperature=0.07, datasets=MORE),
)

def main(data_root, out, change, seed):
    options = dict(CHANGES[change])
    if 'jitter' in options:
        jitter = options.pop('jitter')
        class Stream(PairStream):
            def __init__(self, *args, **kw): super().__init__(*args, jitter=jitter, **kw)
        training.PairStream = Stream
    config = training.TrainConfig(**dict(dict(datasets=dict(MIX)), **options), preset='static', seed=int(seed), data_root=data_root,
                                  cache_dir=f'{out}/cache-{seed}', output_dir=f'{out}/{change}-{seed}', eval_every=250)
    trainer = training.train(config, overwrite=True)
    test = evaluate_sts(lambda texts: training.plain_encode(trainer.model, trainer.data.tokenizer, list(texts)), load_stsb('test', data_root))
    dev = [row['stsb_dev'] for row in trainer.history if 'stsb_dev' in row]
    print(f"{change} seed {seed}: dev {dev}, {trainer.seconds:.0f} s, test {test['spearman']:.2f}")

if __name__=='__main__':
    torch.set_num_threads(1); logger.remove()
    main(*sys.argv[1:])
