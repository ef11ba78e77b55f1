"""Is model A better than model B on STS-B and on the contrast set? Scores, a paired bootstrap, and what an embedding costs.

    .venv/bin/python bench/compare.py DATA_ROOT A0,A1,A2 B0,B1,B2

A and B are run folders, one per seed; seed i of A is compared with seed i of B on the same resamples. Prints one JSON object."""
import json, sys

import numpy as np
from loguru import logger

from text_embedding.data import load_stsb
from text_embedding.retrieval import alignment, uniformity
from text_embedding.evaluation import bootstrap_spearman, evaluate_scores, paired_bootstrap, sts_scores
from text_embedding.contrast import contrast_sentences, contrast_triplets, evaluate_contrast
from text_embedding.inference import load_model

def over_seeds(gold, runs):
    "Spearman x 100 of each seed, its mean, and a 95 % interval of the mean: pairs are resampled, the same for every seed."
    boots = 100*np.mean([bootstrap_spearman(gold, s) for s in runs], 0)
    return dict(seeds=[round(evaluate_scores(s, gold, n_boot=0)['spearman'], 2) for s in runs], mean=round(float(np.mean([evaluate_scores(s, gold, n_boot=0)['spearman'] for s in runs])), 2),
                low=round(float(np.percentile(boots, 2.5)), 2), high=round(float(np.percentile(boots, 97.5)), 2)), boots

def main(data_root, *groups):
    models = [[load_model(path, device='cpu') for path in g.split(',')] for g in groups]
    result = {}
    for split in ('validation', 'test'):
        data = load_stsb(split, data_root)
        scores = [[sts_scores(m.encode, data) for m in g] for g in models]
        rows,boots = zip(*(over_seeds(data['score'], s) for s in scores))
        result[split] = dict(zip('AB', rows))
        for name,runs in zip('AB', scores): result[split][name]['by_genre'] = {g: round(float(np.mean([evaluate_scores(s, data['score'], data['genre'], n_boot=0)['by_genre'][g] for s in runs])), 1) for g in ('captions', 'forums', 'news')}
        if len(groups) > 1:
            diff = boots[0]-boots[1]
            tail = min((diff <= 0).sum(), (diff >= 0).sum())
            result[split]['A - B'] = dict(mean=round(rows[0]['mean']-rows[1]['mean'], 2), low=round(float(np.percentile(diff, 2.5)), 2), high=round(float(np.percentile(diff, 97.5)), 2),
                                          p=round(min(1., 2*(tail+1)/(len(diff)+1)), 4), each_seed=[{k: round(v, 3) for k,v in paired_bootstrap(data['score'], a, b).items()} for a,b in zip(*scores)])
        good = data['score'] >= .8
        texts = list(dict.fromkeys(data['sentence1']+data['sentence2']))
        for name,g in zip('AB', models):
            a,b = (g[0].encode([t for t,ok in zip(data[c], good) if ok]) for c in ('sentence1', 'sentence2'))
            result[split][name] |= dict(alignment=round(float(alignment(a, b)), 3), uniformity=round(float(uniformity(g[0].encode(texts))), 3))
    triplets = contrast_triplets(contrast_sentences(data_root))
    result['contrast'] = {}
    for name,g in zip('AB', models):
        runs = [evaluate_contrast(m.encode, triplets) for m in g]
        result['contrast'][name] = dict(mean=round(float(np.mean([r['accuracy'] for r in runs])), 1), seeds=[round(r['accuracy'], 1) for r in runs], by_kind={k: round(float(np.mean([r['by_kind'][k]['accuracy'] for r in runs])), 1) for k in runs[0]['by_kind']},
                                        low=round(float(np.mean([r['low'] for r in runs])), 1), high=round(float(np.mean([r['high'] for r in runs])), 1))
    print(json.dumps(result, indent=1))

if __name__=='__main__':
    logger.remove()
    main(*sys.argv[1:])
