"""Score a run and draw its curves: `bench/gpu/report.py PREPARED OUT [OTHER_OUT ...]` writes OUT/result.json and OUT/curves.png.
STS-B dev is always scored; STS-B test only when the run has taken its last step. Other runs are drawn beside it."""
import json, sys
from pathlib import Path

import numpy as np
import torch

from text_embedding.checkpoint import load_checkpoint
from text_embedding.evaluation import evaluate_sts, format_sts
from text_embedding.history import compare_runs
from text_embedding.recipe import pick_device
from text_embedding.gather import plain_encode

def score(model_dir, prepared, splits):
    "Spearman with its bootstrap interval on each split, from the judges' data in the prepared directory."
    model,tokenizer,info = load_checkpoint(model_dir, device=pick_device())
    tasks = json.loads((Path(prepared)/'tasks.json').read_text(encoding='utf-8'))
    encode = lambda texts: plain_encode(model, tokenizer, list(texts))
    out = {s: evaluate_sts(encode, tasks[s] | dict(score=np.array(tasks[s]['score']))) for s in splits if s in tasks}
    for s,r in out.items(): print(f'{Path(model_dir).name} step {info["step"]:,} {s}: {format_sts(r)}')
    return out

def main(prepared, out, *others):
    out = Path(out)
    history,info = json.loads((out/'history.json').read_text()),load_checkpoint(out/'last')[2]
    done = history[-1]['step']>=info['train_config']['max_steps']
    splits = ['stsb_dev', 'stsb_test'] if done else ['stsb_dev']
    result = dict(finished=done, step=info['step'], seconds=info['seconds'], pairs=info['pairs'], tokens=info['tokens'], best=info['best'], history_end=history[-1],
                  **{name: score(out/name, prepared, splits) for name in ('best_model', 'last') if (out/name).exists()},   # no best_model before the first evaluation
                  device=torch.cuda.get_device_name() if torch.cuda.is_available() else 'cpu', torch=torch.__version__, config=info['train_config'])
    (out/'result.json').write_text(json.dumps(result, indent=1, default=float))
    runs = {out.name: history} | {Path(o).name: json.loads((Path(o)/'history.json').read_text()) for o in others}
    if any('stsb_dev' in r for r in history): compare_runs(runs).savefig(out/'curves.png', dpi=110)
    print(f'{"finished" if done else "to be continued"}: step {info["step"]:,}, {info["seconds"]:.0f} s, {info["pairs"]:,} pairs; {out/"result.json"}')

if __name__=='__main__': main(*sys.argv[1:])
