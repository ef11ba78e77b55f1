"Search over documentation: what is held out stays out, the judge looks everywhere, and the recipe's options arrive."
import json

import numpy as np
import torch
from conftest import cli

PACKAGES = ('jinja2', 'fsspec', 'tqdm', 'packaging', 'typer')


def test_held_out_functions_are_in_no_training_source():
    "By package, by name and by text; the functions that choose the checkpoint are not those that are reported."
    from text_embedding.docstrings import docstrings
    from text_embedding.data import normalized
    from text_embedding.gather import DOCSTRINGS, docstring_source, docstring_tasks, split_docstrings
    from text_embedding.recipe import TrainConfig
    held = split_docstrings(PACKAGES, None)[1:]
    names,texts = {n for ds in held for n in ds['name']},{normalized(t) for ds in held for c in ('anchor', 'positive') for t in ds[c]}
    assert len(names) >= 3
    for source in DOCSTRINGS:
        for rows in (None, 50):
            ds = docstring_source(source, TrainConfig(packages=PACKAGES, max_rows=rows))
            assert len(ds) > 200 if rows is None else 0 < len(ds) <= rows
            if source=='docstring_names' or rows is None: assert names.isdisjoint(ds['name']), source
            assert texts.isdisjoint(normalized(t) for c in ('anchor', 'positive') for t in ds[c]), source
    assert not any('_click' in name for name,_ in docstrings('typer'))            # a copy of a held-out package
    tasks = docstring_tasks(*split_docstrings(PACKAGES, None)[:2])
    assert set(tasks['functions_dev']['name']).isdisjoint(tasks['functions']['name'])


def test_judge_draws_from_all_rows():
    "Rows lie in the order of packages; the sample does not."
    from datasets import Dataset
    from text_embedding.gather import docstring_tasks, retrieval_judge
    ds = Dataset.from_dict(dict(anchor=[f'q{i}' for i in range(4000)], positive=[f'd{i}' for i in range(4000)], package=[str(i//1000) for i in range(4000)]))
    tasks = docstring_tasks(ds, ds)
    assert [len(t['anchor']) for t in tasks.values()]==[1000]*3
    for t in tasks.values(): assert np.bincount([int(p) for p in t['package']]).min() > 150
    asked = []
    def encode(texts): asked.extend(texts); return np.eye(4, dtype=np.float32)[[int(s[1:])//1000 for s in texts]]
    retrieval_judge(ds)(encode)
    assert set(asked)=={s for i in sorted({int(s[1:]) for s in asked}) for s in (f'q{i}', f'd{i}')} and len(asked)==2000 and max(int(s[1:]) for s in asked) > 3900


def test_recipe_options_arrive(pairs_file, tmp_path):
    "--repeats and --split-identifiers are in the folder that training leaves, and a card written before `repeats` still loads."
    from text_embedding import load_model
    cli('train', '--preset', 'static', '--train-file', pairs_file, '--output-dir', tmp_path/'run', '--max-steps', 5, '--batch-size', 64, '--vocab-size', 400, '--repeats', 'log', '--split-identifiers')
    model = load_model(tmp_path/'run')
    a,b,c = model.encode(['smallCat dog', 'small_cat, dog!', 'small cat cat cat cat dog'])
    np.testing.assert_allclose(a, b, atol=1e-6)
    assert model.model.config.repeats=='log' and model.tokenizer.split_identifiers
    ids = model.tokenizer.encode('small cat cat cat cat dog')
    table = model.model.token_embedding.weight.detach()
    want = sum((1+np.log(ids.count(i)))*table[i] for i in set(ids))
    np.testing.assert_allclose(c, (want/want.norm()).numpy(), atol=1e-5)
    from text_embedding.model import TransformerConfig
    from text_embedding.presets import static
    old = {k: v for k,v in static().to_dict().items() if k!='repeats'}
    assert TransformerConfig.from_dict(old)==static(repeats='count')
    r = cli('train', '--preset', 'tiny', '--train-file', pairs_file, '--output-dir', tmp_path/'warm', '--vocab-size', 400, '--tokenizer', tmp_path/'run/best_model/tokenizer.json', '--warm-start', tmp_path/'run/best_model', '--max-steps', 1, '--repeats', 'count', ok=False)
    assert r.returncode==2 and 'repeats' in r.stderr and r.stderr.count('\n') <= 3, r.stderr
