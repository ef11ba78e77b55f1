"""The curves and contrast scores that lesson 15 draws: text_embedding/curves.json.

    .venv/bin/python bench/curves.py DATA_ROOT STATIC_RUN TINY_RUN NOTE

NOTE says seed, machine and date."""
import json, sys
from pathlib import Path

from text_embedding.contrast import contrast_sentences, contrast_triplets, evaluate_contrast
from text_embedding.inference import load_model

KEPT = ('step', 'seconds', 'pairs', 'tokens', 'flops', 'stsb_dev')

def main(data_root, static, tiny, note):
    triplets,out = contrast_triplets(contrast_sentences(data_root)),{}
    for name,run,what in (('static', static, 'random table'), ('tiny', tiny, 'two blocks on that table, which is frozen')):
        rows = [r for r in json.loads((Path(run)/'history.json').read_text()) if 'stsb_dev' in r]
        scores = evaluate_contrast(load_model(run, device='cpu').encode, triplets)['by_kind']
        out[name] = dict(what=f"{what}, {rows[-1]['step']:,} steps; {note}", history=[{k: r[k] for k in KEPT} for r in rows], contrast={k: v['accuracy'] for k,v in scores.items()})
    (Path(__file__).parents[1]/'text_embedding/curves.json').write_text(json.dumps(out, indent=0)+'\n', encoding='utf-8')

if __name__=='__main__': main(*sys.argv[1:])
