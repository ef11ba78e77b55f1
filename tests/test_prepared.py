"Data prepared once and carried: the same model bit for bit, without `datasets`, within a time limit, in several sittings."
import json, shutil, subprocess, sys

import pytest
import torch
from conftest import ROOT, cli, make_rows
from safetensors.torch import load_file

SHAPE = dict(embd_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=64, output_dim=24, dropout=0.1)
DATA = ['--vocab-size', 400]
STEPS = ['--max-steps', 16, '--batch-size', 32, '--log-every', 4, '--eval-every', 8, '--precision', 'fp32']


@pytest.fixture(scope='module')
def there(tmp_path_factory):
    "Two files, one with negatives; a config for a small encoder; and what `prepare` makes of them."
    t = tmp_path_factory.mktemp('prepared')
    rows = make_rows()
    (t/'a.jsonl').write_text('\n'.join(map(json.dumps, rows[:200])))
    (t/'b.jsonl').write_text('\n'.join(json.dumps(r | dict(negative=f'nothing about {i} at all')) for i,r in enumerate(rows[200:])))
    (t/'direct.json').write_text(json.dumps(dict(preset='encoder', model=SHAPE, train_file=[str(t/'a.jsonl'), str(t/'b.jsonl')])))
    (t/'carried.json').write_text(json.dumps(dict(model=SHAPE)))
    said = cli('prepare', '--config', t/'direct.json', *DATA, '--output-dir', t/'carry').stdout
    assert '400 pairs of 2 source(s)' in said and 'train --prepared' in said
    (t/'a.jsonl').rename(t/'a.moved')                        # from here on there is no text
    return t


def weights(run): return load_file(run/'last/model.safetensors')
def same(a, b): return a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize('extra', [[], ['--held-out', 20, '--no-hard-negatives']])
def test_prepared_trains_the_same_model(there, tmp_path, extra):
    cli('train', '--prepared', there/'carry', '--config', there/'carried.json', *STEPS, *extra, '--output-dir', tmp_path/'carried')
    (there/'a.moved').rename(there/'a.jsonl')
    try: cli('train', '--config', there/'direct.json', *DATA, *STEPS, *extra, '--output-dir', tmp_path/'direct')
    finally: (there/'a.jsonl').rename(there/'a.moved')
    assert same(weights(tmp_path/'carried'), weights(tmp_path/'direct'))
    rows = [[{k: v for k,v in r.items() if k!='seconds'} for r in json.loads((tmp_path/run/'history.json').read_text())] for run in ('carried', 'direct')]
    assert rows[0]==rows[1] and all(r['flops'] > 0 for r in rows[0])
    probed = [r for r in rows[0] if 'held_out' in r]
    assert bool(probed)==bool(extra) and all({'held_out/file 0', 'trained/file 1'} <= r.keys() for r in probed)


def test_needs_no_datasets_and_stops_in_time(there, tmp_path):
    "In a process that cannot import `datasets`: two sittings of limited time end where one without limit does; held-out pairs are never trained on."
    opts = ['train', '--prepared', there/'carry', '--config', there/'carried.json', *STEPS, '--held-out', 20]
    code = '''
import sys; sys.modules['datasets'] = None
from text_embedding import training
from text_embedding.cli import main
clock = iter(range(10**6)); training.time.monotonic = lambda: next(clock)     # a clock that ticks once a look: one second a step
main(sys.argv[1:])'''
    def sitting(*args): return subprocess.run([sys.executable, '-c', code, *map(str, args)], cwd=ROOT, capture_output=True, text=True)
    first = sitting(*opts, '--max-seconds', 9.5, '--output-dir', tmp_path/'half')
    assert first.returncode==0 and '--resume-from' in first.stderr, first.stderr
    step = json.loads((tmp_path/'half/last/info.json').read_text())['step']
    assert step==9, step
    shutil.copytree(there/'carry', tmp_path/'moved')
    second = sitting('train', '--resume-from', tmp_path/'half/last', '--prepared', tmp_path/'moved', '--max-seconds', 1000)
    assert second.returncode==0, second.stderr
    cli(*opts, '--output-dir', tmp_path/'whole')
    assert same(weights(tmp_path/'half'), weights(tmp_path/'whole'))


def test_mixture_can_change_and_resume_notices(there, tmp_path):
    cli('train', '--prepared', there/'carry', '--config', there/'carried.json', *STEPS, '--datasets', 'file 1=2', '--output-dir', tmp_path/'one')
    r = cli('train', '--prepared', there/'carry', '--config', there/'carried.json', *STEPS, '--datasets', 'nli', '--output-dir', tmp_path/'two', ok=False)
    assert r.returncode==2 and 'nli was not prepared' in r.stderr and 'file 0, file 1' in r.stderr
    card = json.loads((there/'carry/prepared.json').read_text())
    cli('train', '--prepared', there/'carry', '--config', there/'carried.json', *STEPS, '--max-seconds', 1e-9, '--output-dir', tmp_path/'three')
    shutil.copytree(there/'carry', tmp_path/'other')
    (tmp_path/'other/prepared.json').write_text(json.dumps(card | dict(weights={'file 0': 1.0, 'file 1': 3.0})))
    r = cli('train', '--resume-from', tmp_path/'three/last', '--prepared', tmp_path/'other', '--max-seconds', 100, ok=False)
    assert r.returncode==2 and 'the mixture changed' in r.stderr, r.stderr


@pytest.mark.parametrize('spoil,options,says', [
    (lambda d: (d/'prepared.json').unlink(), [], 'text-embedding prepare'),
    (lambda d: (d/'prepared.json').write_text('{'), [], 'prepare again'),
    (lambda d: (d/'file_0.npz').write_bytes((d/'file_0.npz').read_bytes()[:300]), [], 'file_0.npz is missing, or not a whole file'),
    (lambda d: (d/'file_1.npz').unlink(), [], 'file_1.npz'),
    (lambda d: None, ['--max-length', 9], 'prepare again with that --max-length'),
    (lambda d: None, ['--preset', 'ada_small', '--num-kv-heads', 1, '--max-length', 64], '[EOS]'),
    (lambda d: None, ['--vocab-size', 300], 'was decided when'),
])
def test_what_does_not_fit_is_said_in_one_line(there, tmp_path, spoil, options, says):
    d = shutil.copytree(there/'carry', tmp_path/'carry')
    spoil(d)
    r = cli('train', '--prepared', d, '--config', there/'carried.json', *STEPS, *options, '--output-dir', tmp_path/'run', ok=False)
    assert r.returncode==2 and says in r.stderr and r.stderr.strip().count('\n')==r.stderr.count(' INFO '), r.stderr
