"Training across processes: both optimizers train each design, and an interrupted run ends where an uninterrupted one does."
import json, os, shutil, signal, subprocess, sys, time

import pytest
import torch
from conftest import ROOT, cli
from safetensors.torch import load_file

SMALL = ['--vocab-size', 400, '--max-steps', 24, '--batch-size', 32, '--log-every', 4, '--eval-every', 8, '--precision', 'fp32']
DESIGNS = {
    'static': {},
    'tiny': dict(embd_dim=32, num_layers=1, num_heads=4, num_kv_heads=2, dropout=0.1),
    'encoder': dict(embd_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=64, output_dim=24, dropout=0.1),
    'ada_small': dict(embd_dim=32, num_layers=2, num_heads=4, max_seq_len=64, dropout=0.1),
    'baseline': dict(embd_dim=32, num_layers=2, num_heads=4, max_seq_len=64, output_dim=24, dropout=0.1),
}


FREE = dict(tiny=dict(warm_start='none', stay_close=0., embedding_lr=3e-3))   # as the other designs: from random weights, every part trained


def options(tmp_path, pairs_file, design, optimizer='adamw', **extra):
    config = tmp_path/f'{design}-{optimizer}.json'
    config.write_text(json.dumps(dict(preset=design, model=DESIGNS[design], train_file=[str(pairs_file)], optimizer=optimizer) | FREE.get(design, {}) | extra))
    return ['--config', config, *SMALL]


def losses(folder): return [r['loss'] for r in json.loads((folder/'history.json').read_text()) if 'loss' in r]


@pytest.mark.parametrize('optimizer', ['adamw', 'muon'])
@pytest.mark.parametrize('design', DESIGNS)
def test_both_optimizers_train_each_design(design, optimizer, pairs_file, tmp_path):
    rate = dict(static=2e-2).get(design, 3e-3)
    quiet = DESIGNS[design] | (dict(dropout=0.0) if 'dropout' in DESIGNS[design] else {})   # 24 steps: the loss must fall by what is learned, not by the draw
    cli('train', *options(tmp_path, pairs_file, design, optimizer, model=quiet), '--learning-rate', rate, '--output-dir', tmp_path/'run')
    seen = losses(tmp_path/'run')
    assert seen[-1] < 0.9*seen[0], seen


@pytest.mark.parametrize('design,optimizer,accum', [('static', 'adamw', 1), ('encoder', 'muon', 2), ('ada_small', 'adamw', 1)])
def test_resume_ends_with_the_same_weights(design, optimizer, accum, pairs_file, tmp_path):
    "Stopped by a signal in the middle, resumed: weights, history and best score are those of the run that was left alone, bit for bit (dropout is on)."
    opts = [*options(tmp_path, pairs_file, design, optimizer), '--grad-accum-steps', accum]
    cli('train', *opts, '--output-dir', tmp_path/'whole')
    half = subprocess.Popen([sys.executable, '-c', f'''
import sys, os, signal
from text_embedding import training
step = training.Trainer.train_step
def train_step(self, batches):
    if self.step==13: os.kill(os.getpid(), signal.SIGINT)   # Ctrl-C in the middle of step 14
    return step(self, batches)
training.Trainer.train_step = train_step
from text_embedding.cli import main
main(sys.argv[1:])'''] + ['train', *map(str, opts), '--output-dir', str(tmp_path/'half')], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said,_ = half.communicate(timeout=300)
    assert half.returncode==0 and '--resume-from' in said, said
    assert json.loads((tmp_path/'half/last/info.json').read_text())['step']==14
    cli('train', '--resume-from', tmp_path/'half/last')
    for name in ('last', 'best_model'):
        a,b = (load_file(tmp_path/run/name/'model.safetensors') for run in ('whole', 'half'))
        assert a.keys()==b.keys() and all(torch.equal(a[k], b[k]) for k in a), name
    rows = [[{k: v for k,v in r.items() if k!='seconds'} for r in json.loads((tmp_path/run/'history.json').read_text()) if 'loss' not in r] for run in ('whole', 'half')]
    assert rows[0]==rows[1]


def test_resume_refuses_another_run(pairs_file, tmp_path):
    opts = options(tmp_path, pairs_file, 'static')
    cli('train', *opts, '--output-dir', tmp_path/'run')
    before = (tmp_path/'run/last/model.safetensors').read_bytes()
    r = cli('train', '--resume-from', tmp_path/'run/last', '--batch-size', 16, ok=False)
    assert r.returncode==2 and 'batch_size: 32 there, 16 here' in r.stderr and r.stderr.count('\n') <= 2, r.stderr
    r = cli('train', *opts, '--output-dir', tmp_path/'run', ok=False)
    assert r.returncode==2 and '--resume-from' in r.stderr and '--overwrite' in r.stderr
    assert (tmp_path/'run/last/model.safetensors').read_bytes()==before


def test_divergence_stops_and_keeps_the_last_good_checkpoint(pairs_file, tmp_path):
    r = subprocess.run([sys.executable, '-c', '''
import sys
from text_embedding import training
loss = training.Trainer.loss
training.Trainer.loss = lambda self, batch: loss(self, batch)*(float("nan") if self.step >= 12 else 1)
from text_embedding.cli import main
main(sys.argv[1:])'''] + ['train', *map(str, options(tmp_path, pairs_file, 'static')), '--output-dir', str(tmp_path/'run')], cwd=ROOT, capture_output=True, text=True)
    assert r.returncode==2 and 'diverged' in r.stderr and 'learning_rate' in r.stderr, r.stderr
    assert json.loads((tmp_path/'run/last/info.json').read_text())['step']==8
    assert all(torch.isfinite(v).all() for v in load_file(tmp_path/'run/last/model.safetensors').values())


def test_train_file_formats_agree(pairs_file, tmp_path):
    "The same rows as JSONL, CSV and parquet train the same weights."
    import pandas as pd
    rows = pd.read_json(pairs_file, lines=True)
    rows.to_csv(tmp_path/'p.csv', index=False); rows.to_parquet(tmp_path/'p.parquet')
    got = []
    for f in (pairs_file, tmp_path/'p.csv', tmp_path/'p.parquet'):
        out = tmp_path/f'run-{f.suffix[1:]}'
        cli('train', '--preset', 'static', '--train-file', f, '--output-dir', out, *SMALL)
        got.append(load_file(out/'last/model.safetensors')['token_embedding.weight'])
    assert torch.equal(got[0], got[1]) and torch.equal(got[0], got[2])


def test_tensorboard_files(pairs_file, tmp_path):
    pytest.importorskip('tensorboard')
    cli('train', *options(tmp_path, pairs_file, 'static'), '--output-dir', tmp_path/'run', '--tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    events = EventAccumulator(str(tmp_path/'run/tensorboard')); events.Reload()
    assert [round(e.value, 4) for e in events.Scalars('loss')]==[round(l, 4) for l in losses(tmp_path/'run')]


def test_tiny_starts_at_static_and_stays_close(pairs_file, tmp_path):
    "One command trains the table first, freezes it, and holds the blocks near it: the nearer, the larger the weight. Stopped and resumed, it ends the same."
    def tiny(name, close, *more): return cli('train', *options(tmp_path, pairs_file, 'tiny', warm_start='static', stay_close=close, embedding_lr=0.), '--learning-rate', 1e-2, '--output-dir', tmp_path/name, *more)
    tiny('near', 100.); tiny('far', 0.)
    table,near,far = (load_file(tmp_path/run/'model.safetensors') for run in ('near/static/best_model', 'near/last', 'far/last'))
    assert torch.equal(table['token_embedding.weight'], near['token_embedding.weight']) and torch.equal(table['token_embedding.weight'], far['token_embedding.weight'])
    vectors = {}
    for run in ('near/static', 'near/last', 'far/last'):
        from text_embedding import load_model
        vectors[run] = load_model(tmp_path/run, device='cpu').encode(['the small animal called cat', 'looking for large dog', 'where can I find a quiet owl'])
    moved = {run: float((1 - (v*vectors['near/static']).sum(1)).mean()) for run,v in vectors.items()}
    assert 0 < moved['near/last'] < moved['far/last'], moved
    before = load_file(tmp_path/'near/last/model.safetensors')
    cli('train', '--resume-from', tmp_path/'near/last')                        # finished: nothing more to do, and the start is found again
    assert all(torch.equal(v, before[k]) for k,v in load_file(tmp_path/'near/last/model.safetensors').items())
    shutil.rmtree(tmp_path/'far/last')                                         # as if cut off before the blocks' first save: the static part is not trained again
    written = (tmp_path/'far/static/best_model/model.safetensors').stat().st_mtime_ns
    tiny('far', 0.)
    assert (tmp_path/'far/static/best_model/model.safetensors').stat().st_mtime_ns==written and (tmp_path/'far/last').is_dir()


def test_from_random_weights_nothing_is_held(pairs_file, tmp_path):
    "tiny's recipe keeps its warm start close and its table as it is; without a warm start there is neither."
    from text_embedding.recipe import TrainConfig
    c = TrainConfig(preset='tiny', warm_start='none').resolve()
    assert c.stay_close is None and c.embedding_lr is None and c.resolve()==c
    cli('train', '--preset', 'tiny', '--warm-start', 'none', '--num-layers', 1, '--train-file', pairs_file, '--output-dir', tmp_path/'run', '--max-steps', 2, '--batch-size', 16, '--vocab-size', 400)
    r = cli('train', '--preset', 'tiny', '--warm-start', 'none', '--stay-close', 50, '--train-file', pairs_file, '--output-dir', tmp_path/'other', '--max-steps', 2, ok=False)
    assert r.returncode and 'stay_close=50 needs a warm_start' in r.stderr+r.stdout
