"A checkpoint survives kills at every step, full disks and odd states; what comes back is what went in, bit for bit."
import errno, importlib.util, json, os, random, subprocess, sys
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from safetensors import torch as st

from text_embedding.checkpoint import CheckpointError, json_bytes, load_checkpoint, load_training_state, pack, save_checkpoint, tensor_bytes, unpack
from text_embedding.lesson import SENTENCES
from text_embedding.model import TextEmbeddingModel
from text_embedding.presets import tiny
from text_embedding.tokenizer import Tokenizer


def same(a, b, path='state'):
    "Types, key types, the order of keys, and the bytes of every tensor."
    assert type(a) is type(b), f'{path}: {type(a)} became {type(b)}'
    if isinstance(a, (torch.Tensor, np.ndarray)):
        assert a.dtype == b.dtype and a.shape == b.shape, path
        raw = lambda x: torch.as_tensor(x).detach().contiguous().flatten().view(torch.uint8)
        assert torch.equal(raw(a), raw(b)), path
    elif isinstance(a, dict):
        assert [(type(k), k) for k in a] == [(type(k), k) for k in b], f'{path}: keys {list(a)} became {list(b)}'
        for k in a: same(a[k], b[k], f'{path}/{k}')
    elif isinstance(a, (list, tuple)):
        assert len(a) == len(b), path
        for i,(x,y) in enumerate(zip(a, b)): same(x, y, f'{path}/{i}')
    else: assert repr(a) == repr(b), f'{path}: {a!r} became {b!r}'


def test_states_come_back_bit_for_bit():
    "The random states of torch, Python and numpy, views, empty tensors, bf16, minus zero, keys 1 and '1' beside each other; and the comparison can fail."
    odd = dict(torch_rng=torch.get_rng_state(), python_rng=random.getstate(), numpy_rng=np.random.get_state(), generator=np.random.default_rng(5).bit_generator.state,
               numbers=[0.1, 1e-310, -0.0, float('inf'), -float('inf'), float('nan'), 2**200, True, None], nested=((), [], {}, ((1,),)), text='naïve ✓ \ud83d',
               keys={1: torch.ones(1), '1': torch.zeros(1), None: 0, (2, 'x'): 1, False: 2}, dollar={'$': 'tensor'}, empty=torch.empty(0, 3), scalar=torch.tensor(3),
               halves=torch.randn(3).bfloat16(), view=torch.arange(10)[3:6], turned=torch.arange(6).view(2, 3).T, flags=torch.tensor([True, False]), array=np.arange(3, dtype=np.uint32))
    tensors = {}
    text = json_bytes(pack(odd, tensors))
    restored = unpack(json.loads(text), st.load(tensor_bytes(tensors)))
    same(odd, restored)
    restored['torch_rng'][7] ^= 1
    with pytest.raises(AssertionError, match='torch_rng'): same(odd, restored)
    with pytest.raises(AssertionError, match='keys'): same({0: 1}, json.loads(json.dumps({0: 1})))


class Killed(BaseException): "No `except Exception`, no `except OSError` sees this."

CALLS = ('fsync', 'replace', 'mkdir', 'unlink', 'rmdir')

@contextmanager
def killed_at(n):
    "Let the first `n` calls that change the disk pass; stop at the next."
    done = []
    def guarded(f):
        def call(*args, **kw):
            if len(done) == n: raise Killed
            done.append(f.__name__)
            return f(*args, **kw)
        return call
    with mock.patch.multiple(os, **{c: guarded(getattr(os, c)) for c in CALLS}): yield done


@pytest.fixture(scope='module')
def parts():
    tokenizer = Tokenizer.train(SENTENCES*4, vocab_size=320, min_frequency=1)
    config = tiny(vocab_size=len(tokenizer), embd_dim=16, num_heads=2, num_kv_heads=1, pad_id=tokenizer.pad_id)
    def generation(name):
        torch.manual_seed(ord(name[0]))
        return dict(model=TextEmbeddingModel(config), tokenizer=tokenizer, state=dict(name=name), info=dict(name=name))
    return {name: generation(name) for name in 'ABCD'}


def found(folder):
    "Whose model and state loading finds: both are of one generation."
    try: info,state = load_checkpoint(folder)[2],load_training_state(folder)
    except CheckpointError: return 'nothing'
    assert info == state
    return info['name']


def kills(save, parts, place):
    "Kill `save` at every step, over A and B; a pair (folder, what loading finds) each."
    results = []
    while True:
        folder = place/str(len(results))/'m'
        for name in 'AB': save_checkpoint(folder, **parts[name])
        try:
            with killed_at(len(results)): save(folder, **parts['C'])
            return results
        except Killed: results.append((folder, found(folder)))


def test_a_kill_at_any_step_loses_nothing(parts, tmp_path):
    "Loading finds B or C; afterwards the next save cleans up and works."
    results = kills(save_checkpoint, parts, tmp_path)
    assert {name for _,name in results} == {'B', 'C'}
    for folder,_ in results:
        save_checkpoint(folder, **parts['D'])
        assert found(folder) == 'D' and not folder.with_name('m.tmp').exists()


def test_a_damaged_checkpoint_never_costs_its_fallback(parts, tmp_path):
    def save_over_damage(folder, **kw):
        with open(folder/'model.safetensors', 'r+b') as f: f.truncate(100)
        save_checkpoint(folder, **kw)
    assert {name for _,name in kills(save_over_damage, parts, tmp_path)} == {'A', 'C'}


@pytest.mark.skipif(os.name == 'nt', reason='folders are synced on POSIX alone')
def test_a_process_that_really_dies(parts, tmp_path):
    "The pretended kill is fair: a child ends itself with `os._exit` before the first call, between the two renames, and after the last."
    code = '\n'.join(('import os, sys',
        'from text_embedding.checkpoint import load_checkpoint, save_checkpoint',
        'n,calls = int(sys.argv[2]),[]',
        'model,tokenizer,_ = load_checkpoint(sys.argv[1])',
        'def guard(f): return lambda *a, **k: os._exit(9) if len(calls) == n else (calls.append(1), f(*a, **k))[1]',
        f'for name in {CALLS}: setattr(os, name, guard(getattr(os, name)))',
        "save_checkpoint(sys.argv[1], model, tokenizer, dict(name='C'), dict(name='C'))"))
    steps = len(kills(save_checkpoint, parts, tmp_path/'pretended'))
    for n,want in ((0, 'B'), (steps-2, 'B'), (steps-1, 'C')):
        folder = tmp_path/f'real{n}'/'m'
        for name in 'AB': save_checkpoint(folder, **parts[name])
        assert subprocess.run([sys.executable, '-c', code, str(folder), str(n)]).returncode == 9
        assert found(folder) == want, f'killed at call {n}'


def test_a_last_rename_that_fails_is_undone(parts, tmp_path):
    real = os.replace
    def last_fails(a, b):
        if str(a).endswith('.tmp'): raise OSError(errno.ENOSPC, 'No space left on device')
        return real(a, b)
    save_checkpoint(tmp_path/'m', **parts['A'])
    with mock.patch('os.replace', last_fails), pytest.raises(CheckpointError, match='what was there is unchanged'): save_checkpoint(tmp_path/'m', **parts['B'])
    assert load_checkpoint(tmp_path/'m', fallback=False)[2]['name'] == 'A' and not (tmp_path/'m.tmp').exists()


def test_what_belongs_to_others_is_left_alone(parts, tmp_path):
    (tmp_path/'notes.txt').write_text('hello'); (tmp_path/'thesis').mkdir(); (tmp_path/'thesis'/'chapter1.txt').write_text('years of work')
    for place in ('notes.txt/model', 'notes.txt', 'thesis'):
        with pytest.raises(CheckpointError, match='not saved'): save_checkpoint(tmp_path/place, **parts['A'])
    assert (tmp_path/'thesis'/'chapter1.txt').read_text() == 'years of work' and (tmp_path/'notes.txt').read_text() == 'hello'


def test_nothing_is_ever_unpickled():
    module = Path(importlib.util.find_spec('text_embedding.checkpoint').origin).read_text(encoding='utf-8')
    assert 'torch.load(' not in module and 'import pickle' not in module and 'hashlib.sha256' in module
