"A faster step is the same step: packed and padded agree, a skipped step leaves every bit, and no step asks the device for a value."
import copy, warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import cli
from safetensors.torch import load_file

from text_embedding import training
from text_embedding.batches import Batch
from text_embedding.presets import PRESETS
from text_embedding.model import TextEmbeddingModel
from text_embedding.optim import Muon, adamw_fused, adamw_update, build_optimizer
from text_embedding.schedule import build_scheduler, optimizer_step, take_back
from text_embedding.step import PackedBatch, Trainer, pack_batch
from text_embedding.teacher import TaughtBatch
from text_embedding.recipe import TrainConfig, pick_precision
from text_embedding.gather import TrainingData
from text_embedding.history import log_steps

MODELS = {
    'static': dict(preset='static', model=dict(embd_dim=32)),
    'tiny': dict(preset='tiny', model=dict(embd_dim=32, num_layers=1, num_heads=4), warm_start='none', stay_close=0., embedding_lr=1e-3),
    'encoder': dict(preset='encoder', model=dict(embd_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, output_dim=24)),
    'ada_small': dict(preset='ada_small', model=dict(embd_dim=32, num_layers=2, num_heads=4)),
    'baseline': dict(preset='baseline', model=dict(embd_dim=32, num_layers=2, num_heads=4, output_dim=24)),
}
MODELS['matryoshka'] = MODELS['encoder'] | dict(matryoshka=(24, 8))


def texts(rng, b, longest):
    n = torch.from_numpy(rng.integers(1, longest+1, b)); n[0] = longest
    mask = torch.arange(longest) < n[:, None]
    return torch.from_numpy(rng.integers(5, 200, (b, longest))).masked_fill(~mask, 0), mask


class Stream:
    "Random batches of two or three parts; a teacher read three pairs of each where `taught`."
    names,share,steps_per_epoch = ['x'],np.ones(1),100
    def __init__(self, b=12, negatives=True, taught=False): self.b,self.negatives,self.taught = b,negatives,taught
    def batch(self, t):
        rng = np.random.default_rng(t)
        parts = [texts(rng, self.b, 9), texts(rng, self.b, 14), texts(rng, self.b-5, 6) if self.negatives else None]
        batch = Batch(*parts, torch.arange(self.b), torch.arange(self.b)+1000, 'x')
        return TaughtBatch(**vars(batch), read=torch.tensor([1, 4, 7]), vectors=torch.nn.functional.normalize(torch.from_numpy(rng.normal(size=(6, 5))), dim=1)) if self.taught else batch


def trainer(kind, stream=None, **changes):
    c = TrainConfig(**MODELS[kind] | dict(device='cpu', precision='fp32', batch_size=12, max_length=16, max_steps=40) | changes).resolve()
    torch.manual_seed(0)
    model = TextEmbeddingModel(PRESETS[c.preset](vocab_size=200, max_seq_len=32, **c.model))
    return Trainer(c, model, TrainingData(None, stream or Stream(), {}, {}))


def loss_and_gradients(t, batch):
    t.model.eval()                                       # no dropout: its masks differ
    loss = t.loss(t.ready(batch)); loss.backward()
    return loss.item(),{n: p.grad for n,p in t.model.named_parameters() if p.grad is not None}


def assert_same(padded, packed):
    assert abs(padded[0]-packed[0]) < 1e-5*max(1, abs(padded[0]))
    assert padded[1].keys()==packed[1].keys()
    size = max(g.abs().max() for g in padded[1].values())
    for n,g in padded[1].items(): torch.testing.assert_close(packed[1][n], g, rtol=1e-4, atol=1e-6*float(size), msg=lambda m: f'{n}: {m}')


@pytest.mark.parametrize('negatives', [True, False])
@pytest.mark.parametrize('kind', MODELS)
def test_packed_and_padded_have_one_loss_and_one_gradient(kind, negatives):
    batch = Stream(negatives=negatives).batch(3)
    assert_same(*(loss_and_gradients(trainer(kind, packing=packing), batch) for packing in (False, True)))


@pytest.mark.parametrize('weight', [0.5, 1.])
def test_packed_distillation(weight):
    batch = Stream(taught=True).batch(0)
    assert_same(*(loss_and_gradients(trainer('static', packing=packing, teacher='minilm', teacher_weight=weight), batch) for packing in (False, True)))


def test_packed_stay_close():
    def run(packing):
        t = trainer('encoder', packing=packing)
        t.start = trainer('static').model.eval().requires_grad_(False); t.config = replace(t.config, stay_close=50.)
        return loss_and_gradients(t, Stream().batch(0))
    assert_same(run(False), run(True))
    assert run(True)[0]!=loss_and_gradients(trainer('encoder'), Stream().batch(0))[0]


def test_a_packed_batch_counts_as_its_padded_one_and_holds_no_padding():
    batch = Stream().batch(0); packed = pack_batch(batch, 4)
    assert (packed.n_pairs, packed.n_tokens)==(batch.n_pairs, batch.n_tokens) and packed.sizes==[12, 12, 7]
    assert packed.packed.ids.numel()==batch.n_tokens < batch.n_padded and packed.pairs.parts==[] and len(packed.packed.runs) <= 4
    assert isinstance(packed.to('cpu'), PackedBatch) and torch.equal(packed.to('cpu').packed.ids, packed.packed.ids)


def test_accumulation_is_the_mean_of_its_batches():
    one,two = trainer('encoder', model=MODELS['encoder']['model']|dict(dropout=0.)),trainer('encoder', model=MODELS['encoder']['model']|dict(dropout=0.), grad_accum_steps=2)
    losses = [one.loss(b) for t in (0, 1) for b in one.micro_batches(t)]
    assert torch.allclose(two.train_step(two.micro_batches(0))['loss'], sum(losses)/2)


def test_a_run_may_go_on_packed_or_padded(pairs_file, tmp_path):
    "An older checkpoint knows no `packing`; the option may change, as the device may."
    import json
    (tmp_path/'c.json').write_text(json.dumps(dict(preset='static', train_file=[str(pairs_file)], packing=False)))
    cli('train', '--config', tmp_path/'c.json', '--vocab-size', 400, '--max-steps', 6, '--batch-size', 32, '--output-dir', tmp_path/'run')
    old = json.loads((tmp_path/'run/last/info.json').read_text())['train_config']
    assert old['packing'] is False
    training.check_same_run({k: v for k,v in old.items() if k!='packing'}, old); training.check_same_run(old, old|dict(packing=True))


# ---------------------------------------------------------------- steps that are skipped

def small(): torch.manual_seed(0); return TextEmbeddingModel(PRESETS['encoder'](vocab_size=60, embd_dim=16, num_layers=2, num_heads=4, num_kv_heads=2, output_dim=8, dropout=0.))
def gradients(net, seed, scale=1.):
    g = torch.Generator().manual_seed(seed)
    for p in net.parameters(): p.grad = scale*torch.randn(p.shape, generator=g)*1e-2
def everything(net, opt): return copy.deepcopy([list(net.parameters()), [opt.state[p] for g in opt.param_groups for p in g['params']]])


@pytest.mark.parametrize('bad', [float('nan'), float('inf'), -float('inf')])
@pytest.mark.parametrize('wait', [True, False])
@pytest.mark.parametrize('scaled', [True, False])
@pytest.mark.parametrize('name', ['adamw', 'muon'])
def test_a_bad_gradient_leaves_every_bit(name, scaled, wait, bad):
    net = small(); opt = build_optimizer(net, name); sched = build_scheduler(opt, 'linear', 4, 20)
    scaler = torch.amp.GradScaler('cpu', init_scale=256.) if scaled else None
    def step(seed, broken=False):
        gradients(net, seed, 256. if scaled else 1.)
        if scaled: scaler.scale(torch.zeros(()))             # the scaler's own start
        if broken: net.blocks[1].ffn.down_proj.weight.grad[0, 3] = bad
        return optimizer_step(opt, sched, scaler, max_norm=1., wait=wait)
    assert bool(step(0)['stepped']) and bool(step(1)['stepped'])
    before = everything(net, opt)
    done = step(2, broken=True)
    assert not done['stepped'] and torch.is_tensor(done['stepped'])!=wait and not torch.isfinite(done['grad_norm'])
    for a,b in zip(*(e[0] for e in (before, everything(net, opt)))): assert torch.equal(a.view(torch.int32), b.view(torch.int32))
    for a,b in zip(before[1], everything(net, opt)[1]):
        assert a.keys()==b.keys() and all(torch.equal(torch.as_tensor(a[k]), torch.as_tensor(b[k])) for k in a)
    if not wait: take_back(sched, 1)
    assert sched.last_epoch==2 and sched.get_last_lr()==[g['lr'] for g in opt.param_groups]==[g['initial_lr']*3/4 for g in opt.param_groups]
    assert not hasattr(opt, 'found_inf') and bool(step(3)['stepped']) and not torch.equal(before[0][0], next(net.parameters()))


@pytest.mark.parametrize('name', ['adamw', 'muon'])
def test_the_very_first_step_may_be_bad(name):
    net,other = small(),small(); a,b = build_optimizer(net, name),build_optimizer(other, name)
    gradients(net, 0); next(net.parameters()).grad[0, 0] = float('nan')
    optimizer_step(a, wait=False); gradients(net, 1); optimizer_step(a, wait=False)
    gradients(other, 1); optimizer_step(b)
    for p,q in zip(net.parameters(), other.parameters()): assert torch.equal(p, q)


@pytest.mark.parametrize('name', ['adamw', 'muon'])
@pytest.mark.parametrize('scaled', [True, False])
def test_asked_or_not_the_weights_are_the_same(name, scaled):
    def run(wait):
        net = small(); opt = build_optimizer(net, name); scaler = torch.amp.GradScaler('cpu', init_scale=64.) if scaled else None
        for i in range(6):
            gradients(net, i, 64. if scaled else 1.)
            if scaled: scaler.scale(torch.zeros(()))
            optimizer_step(opt, None, scaler, max_norm=1., wait=wait)
        return list(net.parameters())
    for a,b in zip(run(True), run(False)): assert torch.equal(a, b)


def test_a_scaler_that_nobody_asked_to_unscale():
    "`scaler.step` alone hands the scale over; Muon divides by it, as the fused AdamW does."
    def run(scale):
        net = small(); opt = build_optimizer(net, 'muon'); gradients(net, 0, scale or 1.)
        if scale: scaler = torch.amp.GradScaler('cpu', init_scale=scale); scaler.scale(torch.zeros(())); scaler.step(opt); scaler.update()
        else: opt.step()
        return list(net.parameters())
    for a,b in zip(run(None), run(128.)): torch.testing.assert_close(a, b)


def test_muons_adamw_groups_are_adamw_and_read_old_states():
    "One kernel, the numbers of the written-out formula; a state whose count is a plain number (as older checkpoints have it) goes on."
    torch.manual_seed(0); p = torch.randn(7, 3); q = p.clone(); sp,sq = {},{}
    for i in range(4):
        p.grad = torch.randn(7, 3); q.grad = p.grad.clone()
        adamw_update([p], [sp], 1e-2, (0.9, 0.98), 1e-8, 0.1); adamw_fused([q], [sq], 1e-2, (0.9, 0.98), 1e-8, 0.1)
        if i==1: sq['step'] = int(sq['step'])
    torch.testing.assert_close(p, q, rtol=1e-6, atol=1e-7); assert sq['step']==4


def test_an_optimizer_without_a_flag_is_asked():
    w = torch.nn.Parameter(torch.ones(3)); opt = torch.optim.SGD([w], lr=0.1); w.grad = torch.full((3,), float('nan'))
    assert optimizer_step(opt, wait=False)['stepped'] is False and torch.equal(w, torch.ones(3))


def test_take_back_goes_where_the_schedule_would_be():
    def at(n): opt = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.3); s = build_scheduler(opt, 'cosine', 5, 30); opt.step(); [s.step() for _ in range(n)]; return s
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        for n,k in ((9, 3), (3, 3), (4, 0)):
            s = at(n); take_back(s, k)
            assert s.last_epoch==n-k and s.get_last_lr()==at(n-k).get_last_lr()==[s.optimizer.param_groups[0]['lr']]


def test_a_look_at_the_losses_takes_the_schedule_back():
    "As on a GPU: five steps that nobody asks about, two of them skipped."
    class Bar:
        def set_postfix_str(self, *a, **k): pass
    t = trainer('encoder'); t.wait,t.precision = False,'fp16'; t.scaler = torch.amp.GradScaler('cpu', init_scale=2.**10)
    real,pending = t.loss,[]
    for step in range(5):
        t.loss = lambda batch: real(batch)*(1e38 if step in (1, 2) else 1)
        pending.append(t.train_step(t.micro_batches(step))); t.step += 1
        pending[-1]['loss'] = torch.tensor(1.)
    assert t.scheduler.last_epoch==5
    assert log_steps(t, pending, Bar())==[] and t.scheduler.last_epoch==3 and t.history[-1]['lr']==t.optimizer.param_groups[0]['lr']


@pytest.mark.parametrize('optimizer', ['adamw', 'muon'])
def test_a_step_reads_nothing_from_the_device(optimizer):
    from torch.utils._python_dispatch import TorchDispatchMode
    class Reads(TorchDispatchMode):
        def __init__(self): super().__init__(); self.seen = []
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(n in str(func) for n in ('_local_scalar_dense', 'nonzero', 'masked_select', 'unique')): self.seen.append(str(func))
            return func(*args, **(kwargs or {}))
    for scaled in (False, True):
        t = trainer('encoder', optimizer=optimizer); t.wait = False; t.scaler = torch.amp.GradScaler('cpu', enabled=scaled)
        t.train_step(t.micro_batches(0)); batches = t.micro_batches(1)
        with Reads() as r: t.train_step(batches)
        assert r.seen==[]


# ---------------------------------------------------------------- precision

@pytest.mark.parametrize('library,avx512,amx,picked', [(True, True, False, 'bf16'), (True, False, True, 'bf16'), (True, False, False, 'fp32'), (False, True, True, 'fp32')])
def test_bf16_on_a_cpu_only_where_it_is_hardware(library, avx512, amx, picked, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, 'is_available', lambda: True)
    monkeypatch.setattr(torch.ops.mkldnn, '_is_mkldnn_bf16_supported', lambda: library, raising=False)
    monkeypatch.setattr(torch.cpu, '_is_avx512_bf16_supported', lambda: avx512, raising=False)
    monkeypatch.setattr(torch.cpu, '_is_amx_tile_supported', lambda: amx, raising=False)
    assert pick_precision(torch.device('cpu'))==picked and pick_precision(torch.device('cpu'), 'fp32')=='fp32'


def test_weights_stay_fp32_under_bf16():
    t = trainer('encoder', precision='bf16')
    assert t.train_step(t.micro_batches(0))['loss'].dtype==torch.float32
    assert all(p.dtype==torch.float32 and p.grad.dtype==torch.float32 for p in t.model.parameters())
    assert all(v.dtype==torch.float32 for s in t.optimizer.state.values() for v in s.values())
