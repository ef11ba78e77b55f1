"Distillation: the student's cosines move to the teacher's, the teacher reads each text once, and what is missing is named. The teacher is a random matrix."
import json, zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import cli, make_rows

from text_embedding import teacher as teacher_module
from text_embedding.checkpoint import load_checkpoint
from text_embedding.batches import PairStream
from text_embedding.recipe import TrainConfig, build_model
from text_embedding.gather import plain_encode, prepare_data
from text_embedding.training import train

class Teacher:
    "Random vectors of 32 numbers for each word, averaged; counts the texts it reads."
    def __init__(self): self.read = 0
    def __call__(self, texts):
        self.read += len(texts)
        v = np.stack([np.mean([np.random.default_rng(zlib.crc32(w.encode())).normal(size=32) for w in t.lower().split() or ['']], axis=0) for t in texts])
        return v/np.linalg.norm(v, axis=1, keepdims=True)


@pytest.fixture
def teacher(monkeypatch):
    t = Teacher()
    monkeypatch.setattr(teacher_module, 'load_teacher', lambda name, max_length: (t, f'{name} {max_length}'))
    return t


def options(pairs_file, tmp_path, **changes):
    return TrainConfig(**dict(dict(train_file=(str(pairs_file),), vocab_size=400, model=dict(embd_dim=32), max_steps=40, batch_size=64, eval_every=20, device='cpu', precision='fp32',
                                   teacher='minilm', teacher_rows=300, teacher_weight=1., cache_dir=str(tmp_path/'cache'), output_dir=str(tmp_path/'run')), **changes))


def off_diagonal(v): c = v@v.T; return c[~np.eye(len(c), dtype=bool)]


def correlation(trainer, teacher):
    texts = [r['anchor'] for r in make_rows()[::5]]
    return np.corrcoef(off_diagonal(plain_encode(trainer.model, trainer.data.tokenizer, texts)), off_diagonal(teacher(texts)))[0, 1]


@pytest.mark.parametrize('weight', [1., 0.5])
def test_cosines_move_to_the_teachers(weight, teacher, pairs_file, tmp_path):
    plain = correlation(train(options(pairs_file, tmp_path, teacher=None, output_dir=str(tmp_path/'plain'))), teacher)
    told = correlation(train(options(pairs_file, tmp_path, teacher_weight=weight)), teacher)
    assert told > plain+0.1, (plain, told)
    assert load_checkpoint(tmp_path/'run/best_model')[2]['distilled_from']=='minilm'
    assert 'distilled_from' not in load_checkpoint(tmp_path/'plain/best_model')[2]
    on_top = train(options(pairs_file, tmp_path, teacher=None, preset='tiny', model=dict(embd_dim=32, num_layers=1, num_heads=4), max_steps=1, warm_start=str(tmp_path/'run/best_model'), output_dir=str(tmp_path/'tiny')))
    assert load_checkpoint(tmp_path/'tiny/best_model')[2]['distilled_from']=='minilm' and on_top.step==1         # who starts from a distilled model is one


def test_static_starts_at_the_teachers_tokens(teacher, pairs_file, tmp_path):
    "At weight 0 the teacher reads the vocabulary alone; the table's cosines are its own, the mean taken out."
    c = options(pairs_file, tmp_path, teacher_weight=0., preset='static').resolve()
    data = prepare_data(c)
    assert teacher.read <= 400 and type(data.stream) is PairStream
    table = build_model(c, data.tokenizer, data.start).token_embedding.weight.detach().numpy()
    said = teacher([data.tokenizer.decode([i]) for i in range(len(table))])
    unit = lambda x: x/np.linalg.norm(x, axis=1, keepdims=True)
    np.testing.assert_allclose(off_diagonal(unit(table)), off_diagonal(unit(said-said.mean(0))), atol=5e-3)
    with pytest.raises(ValueError, match='teacher_weight'): options(pairs_file, tmp_path, teacher_weight=0., preset='tiny').resolve()


def test_the_teacher_reads_once(teacher, pairs_file, tmp_path):
    c = options(pairs_file, tmp_path).resolve()
    data = prepare_data(c)
    read = teacher.read
    assert 600 < read <= 600+400 and len(data.stream.sources['file 0'])==300          # texts of 300 pairs, and the vocabulary
    again = prepare_data(replace(c, seed=1))
    assert teacher.read==read                                                      # another seed, the same file
    (b,twin) = (d.stream.batch(0) for d in (data, prepare_data(c)))
    assert torch.equal(b.vectors, twin.vectors) and b.vectors.dtype==torch.float16 and len(b.vectors)==2*b.n_pairs
    prepare_data(replace(c, teacher_rows=100))
    assert teacher.read > read                                                     # other texts, another file


def test_a_batch_carries_the_vectors_of_its_own_texts(teacher, pairs_file, tmp_path):
    data = prepare_data(options(pairs_file, tmp_path, teacher_weight=0.5).resolve())
    for t in (0, 3, 11):
        b = data.stream.batch(t)
        assert 1 < len(b.read) < b.n_pairs                                         # the teacher read 300 of 400
        texts = [data.tokenizer.decode(ids[mask].tolist()).strip() for part in (b.anchor, b.positive) for ids,mask in zip(part[0][b.read], part[1][b.read])]
        np.testing.assert_allclose(b.vectors.float(), teacher(texts), atol=2e-3)
        moved = b.to('cpu')
        assert torch.equal(moved.vectors, b.vectors) and torch.equal(moved.read, b.read)


def test_resume_ends_with_the_same_weights(teacher, pairs_file, tmp_path):
    whole = train(options(pairs_file, tmp_path, teacher_weight=0.7))
    half = options(pairs_file, tmp_path, teacher_weight=0.7, output_dir=str(tmp_path/'half'))
    assert train(half, stop_at=13).step==13
    again = train(half, resume_from=str(tmp_path/'half/last'))
    assert all(torch.equal(a, b) for a,b in zip(whole.model.parameters(), again.model.parameters())) and whole.best==again.best
    with pytest.raises(ValueError, match='teacher_weight'): train(replace(half, teacher_weight=0.5), resume_from=str(tmp_path/'half/last'))


def test_what_is_missing_is_named(pairs_file, tmp_path, monkeypatch):
    opts = ['train', '--train-file', pairs_file, '--vocab-size', 400, '--max-steps', 2, '--output-dir', tmp_path/'run']
    monkeypatch.setattr(teacher_module, 'find_spec', lambda name: None)
    r = cli(*opts, '--teacher', 'minilm', ok=False)
    assert r.returncode==2 and "pip install 'text_embedding[distill]'" in r.stderr and 'Traceback' not in r.stderr
    r = cli(*opts, '--teacher', tmp_path, ok=False)
    assert r.returncode==2 and 'modules.json' in r.stderr
    for wrong in ('-0.1', '1.5'):
        r = cli(*opts, '--teacher', 'minilm', '--teacher-weight', wrong, ok=False)
        assert r.returncode==2 and 'teacher_weight' in r.stderr


def test_evaluate_says_who_taught(teacher, pairs_file, tmp_path):
    train(options(pairs_file, tmp_path, max_steps=2))
    assert 'distilled from minilm' in cli('evaluate', '--model', tmp_path/'run', '--pairs', pairs_file).stdout
    assert json.loads(cli('evaluate', '--model', tmp_path/'run', '--pairs', pairs_file, '--json').stdout)['distilled_from']=='minilm'
