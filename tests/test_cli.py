"The command line does what its help says, on real files."
import json

import numpy as np
import pytest
from conftest import cli

TEXTS = ['the small animal called cat', 'looking for large dog', 'where can I find a quiet owl', 'ein Beispiel', '🦉 emoji only 🦉']


def test_help_is_for_newcomers():
    assert 'train --quick-start' in cli('--help', process=True).stdout
    for command in ('train', 'evaluate', 'encode', 'similarity', 'search'):
        text = cli(command, '--help').stdout
        assert text.startswith('usage: text-embedding '+command) and len(text.splitlines()) > 6
    text = cli('train', '--help').stdout
    for option in '--quick-start --optimizer --batch-size --grad-accum-steps --num-epochs --max-steps --learning-rate --muon-lr --use-wikipedia --use-snli --max-wiki-samples --fp16 --no-fp16 --num-layers --num-heads --num-kv-heads --output-dim --vocab-size --output-dir --resume-from --seed --preset --data-root --datasets --train-file --config'.split():
        assert option in text, option


@pytest.mark.parametrize('suffix', ['txt', 'jsonl', 'csv', 'parquet'])
@pytest.mark.parametrize('out', ['v.npy', 'v.parquet'])
def test_encode_files(suffix, out, trained, tmp_path):
    "Any input format, either output format: the vectors of `encode`, in order."
    import pandas as pd
    f = tmp_path/f'texts.{suffix}'
    if suffix=='txt': f.write_text('\n'.join(TEXTS)+'\n\n', encoding='utf-8')
    elif suffix=='jsonl': f.write_text('\n'.join(json.dumps(dict(text=t)) for t in TEXTS))
    elif suffix=='csv': pd.DataFrame(dict(text=TEXTS)).to_csv(f, index=False)
    else: pd.DataFrame(dict(text=TEXTS)).to_parquet(f)
    cli('encode', '--model', trained, f, tmp_path/out, '--batch-size', 2)
    got = np.load(tmp_path/out) if out.endswith('npy') else np.stack(pd.read_parquet(tmp_path/out)['embedding'])
    from text_embedding import load_model
    np.testing.assert_allclose(got, load_model(trained).encode(TEXTS), atol=1e-6)
    assert sorted(p.name for p in tmp_path.iterdir())==sorted([f.name, out])


def test_similarity_and_search(trained, tmp_path):
    assert float(cli('similarity', '--model', trained, TEXTS[0], TEXTS[0]).stdout) == pytest.approx(1, abs=1e-3)
    f = tmp_path/'c.txt'; f.write_text('\n'.join(TEXTS), encoding='utf-8')
    lines = cli('search', '--model', trained, TEXTS[1], '--candidates', f, '--top-k', 2).stdout.strip().splitlines()
    assert lines[0]==TEXTS[1] and len(lines)==3 and TEXTS[1] in lines[1] and '1.000' in lines[1]


def test_reading_standard_input(trained, tmp_path):
    import subprocess, sys
    r = subprocess.run([sys.executable, '-m', 'text_embedding', 'encode', '--model', str(trained), '-', str(tmp_path/'v.npy')], input='one\ntwo\n', text=True, capture_output=True)
    assert r.returncode==0 and np.load(tmp_path/'v.npy').shape==(2, 256), r.stderr


def test_evaluate_on_local_data(trained, tmp_path):
    "A data root in hub layout stands in front of the hub; JSON has both splits with intervals and genres."
    import pandas as pd
    rng = np.random.default_rng(0)
    for split,n in dict(train=5749, validation=1500, test=1379).items():
        d = tmp_path/'sentence-transformers/stsb/data'; d.mkdir(parents=True, exist_ok=True)
        words = np.array('cat dog horse bird fish mouse small large quick slow'.split())
        a,b = (words[rng.integers(0, len(words), (n, 4))] for _ in range(2))
        pd.DataFrame(dict(sentence1=[' '.join(x) for x in a], sentence2=[' '.join(x) for x in b], score=(a[:,:,None]==b[:,None]).any(1).mean(1))).to_parquet(d/f'{split}-00000-of-00001.parquet')
    r = json.loads(cli('evaluate', '--model', trained, '--data-root', tmp_path, '--json').stdout)
    for split,n in dict(dev=1500, test=1379).items():
        assert r[split]['n']==n and r[split]['low'] < r[split]['spearman'] < r[split]['high'] and r[split]['spearman'] > 20
        assert set(r[split]['by_genre'])=={'captions', 'forums', 'news'}
    assert 'STS-B dev' in cli('evaluate', '--model', trained, '--data-root', tmp_path).stdout


def test_python_snippets_of_the_design(trained):
    from text_embedding import TextEmbeddingModel, TransformerConfig, load_model
    import torch
    config = TransformerConfig(vocab_size=100000, max_seq_len=8192, embd_dim=1536, num_layers=6, num_heads=16, dropout=0.1, mlp_ratio=4.0, layer_norm_eps=1e-5)
    with torch.device('meta'): assert TextEmbeddingModel(config).num_parameters() > 2e8
    for model in (load_model(trained), load_model(trained/'model.safetensors', trained/'tokenizer.json'), load_model(trained.parent)):
        assert model.encode('one text').shape==(256,) and model.encode(['a b', 'c']).shape==(2, 256) and model.encode([]).shape==(0, 256)
        assert isinstance(model.similarity('a b', 'a b'), float) and model.similarity(['a', 'b'], ['c', 'd', 'e']).shape==(2, 3)
        hits = model.find_similar(query='small cat', candidates=TEXTS, top_k=10)
        assert len(hits)==len(TEXTS) and hits[0]['text']==TEXTS[0] and [h['score'] for h in hits]==sorted((h['score'] for h in hits), reverse=True)
