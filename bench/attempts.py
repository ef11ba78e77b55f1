"""What was tried to make the 38 M encoder faster on a CPU, each against what ships, in alternating rounds. Prints a markdown table a topic; all weights are random.

    bench/attempts.py [--what encode,latency,train,profile] [--rounds 3] [--quick]"""
import argparse, tempfile
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F

from text_embedding import fast, feedforward, inference, model, packing, training
from text_embedding.peers import Contender, Lab, our_step, pick, work
from text_embedding.bench import alternate, compare, matmul_peak
from text_embedding.inference import Embedder

@contextmanager
def patched(*changes):  # (module, name, value)
    "Some names of the package replaced, and put back."
    old = [(m, k, getattr(m, k)) for m,k,_ in changes]
    for m,k,v in changes: setattr(m, k, v)
    try: yield
    finally:
        for m,k,v in old: setattr(m, k, v)

def per_tensor(weight, bias):
    "int8 with one scale for all activations of a batch: the vector of a text then depends on its batch."
    ops = torch.ops.quantized
    scales = weight.abs().amax(1).clamp(min=1e-12)/63
    packed = ops.linear_prepack(torch.quantize_per_channel(weight, scales.double(), torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8), bias)
    return lambda x: ops.linear_dynamic(x, packed, False)

def onednn_int8(weight, bias):
    "int8 by oneDNN instead of FBGEMM, one scale for all activations."
    engine = torch.backends.quantized.engine
    torch.backends.quantized.engine = 'onednn'
    run = per_tensor(weight, bias)
    torch.backends.quantized.engine = engine
    return run

def compiled(weight, bias):
    "int8 as it ships, the steps around the product fused by torch.compile (needs a C++ compiler)."
    ops = torch.ops.quantized
    scales = weight.abs().amax(1).clamp(min=1e-12)/63
    packed = ops.linear_prepack(torch.quantize_per_channel(weight, scales.double(), torch.zeros(len(weight), dtype=torch.long), 0, torch.qint8), None)
    def linear(x):
        small,largest = shrink(x)
        return grow(ops.linear_with_input_q_dq_qweight_dq_output_fp32(small, 1/127, 128, packed), largest, bias)
    return linear

@torch.compile(dynamic=True)
def shrink(x):
    largest = x.abs().amax(-1, keepdim=True).clamp(min=1e-12)
    return x/largest, largest

@torch.compile(dynamic=True)
def grow(y, largest, bias): return y*largest if bias is None else y*largest+bias

@contextmanager
def alone(n): yield map   # in place of `workers`: every batch on all cores, in the calling thread

def engine(lab, precision, changes=(), alter=lambda model, fast_model: None):
    "An Embedder whose fast engine was built under changes, and altered after."
    e = Embedder(lab.model(), lab.tokenizer, device='cpu', precision=precision)
    def build(model, p): f = fast.FastModel(model, p); alter(model, f); return f
    with patched((inference, 'FastModel', build), *changes): e.engine(precision)
    return e

def tanh_gelu(model, f):
    "GELU by tanh: other numbers, an upper bound of what a cheaper GELU could bring."
    for b in f.blocks: b.act = lambda x: F.gelu(x, approximate='tanh')

def joined(model, f):
    "Gate and up projection in one matrix: a call less, and GELU over half rows."
    for b,block in zip(f.blocks, model.blocks):
        both = (block.ffn.gate_proj, block.ffn.up_proj)
        wide = fast.fast_linear(torch.cat([l.weight.detach() for l in both]), torch.cat([l.bias.detach() for l in both]), f.precision)
        def feed(x, b=b, wide=wide): gate,up = wide(x).chunk(2, -1); return b.down(b.act(gate).mul_(up))
        b.feed = feed

def encode(lab, texts):
    def run(precision, changes=(), alter=lambda *_: None, during=(), **options):
        e = engine(lab, precision, changes, alter)
        def f():
            with patched(*during): return e.encode(texts, **options)
        return f
    ways = {'int8, as shipped': run('int8'), 'int8, one batch on all cores': run('int8', during=[(inference, 'workers', alone)])}
    ways |= {f'int8, batches of {n} tokens': run('int8', token_budget=n) for n in (128, 256, 1024)}
    ways |= {'int8, one scale a batch (FBGEMM)': run('int8', [(fast, 'int8_linear', per_tensor)]),
             'int8, one scale a batch (oneDNN)': run('int8', [(fast, 'int8_linear', onednn_int8)]),
             'int8, gate and up in one matrix': run('int8', alter=joined), 'int8, tanh GELU': run('int8', alter=tanh_gelu),
             'int8, attention by sdpa alone': run('int8', during=[(fast, 'SHORT', 0)]), 'int8, attention by softmax alone': run('int8', during=[(fast, 'SHORT', 10**6)]),
             'int8, torch.compile around products': run('int8', [(fast, 'int8_linear', compiled)]),
             'fp32, as shipped': run('fp32'), 'fp32, gate and up in one matrix': run('fp32', alter=joined),
             'fp32, oneDNN': run('fp32', [(fast, 'onednn_is_faster', lambda *a: True)])}
    return [Contender(k, f, **work(lab.tokenizer, texts, lab.model()), precision=k.split(',')[0]) for k,f in ways.items()],'int8, as shipped'

def latency(lab):
    text = pick(lab.short[:101], 1)
    ways = {'fp32, as shipped': engine(lab, 'fp32'), 'fp32, torch alone': engine(lab, 'fp32', [(fast, 'onednn_is_faster', lambda *a: False)]), 'fp32, oneDNN': engine(lab, 'fp32', [(fast, 'onednn_is_faster', lambda *a: True)]),
            'int8, as shipped': engine(lab, 'int8'), 'int8, one scale a batch': engine(lab, 'int8', [(fast, 'int8_linear', per_tensor)])}
    return [Contender(k, lambda e=e: e.encode(text), **work(lab.tokenizer, text, e.model), calls=20) for k,e in ways.items()],'fp32, as shipped'

def train(lab):
    n = lab.size['pairs']; texts = lab.short[:2*n]; a,b = texts[:n],texts[n:]
    w = work(lab.tokenizer, texts, lab.model(), passes=3) | dict(items=n)
    step = lambda size=n: our_step(lab, a, b, size, 'fp32')
    def dry():
        with patched((lab, 'model', lambda **kw: Lab.model(lab, dropout=0.0, **kw))): return step()
    def old():
        with patched((model, 'Dropout', torch.nn.Dropout), (feedforward, 'Dropout', torch.nn.Dropout)): return step()
    ways = {'as shipped': step(), f'batches of {n//4}': step(size=n//4), 'without dropout': dry(), 'nn.Dropout': old()}
    for runs in (None, 4, 32):
        f = step(); ways[f'{runs or "as many as lengths"} runs'] = lambda f=f, r=runs: with_runs(f, r)
    return [Contender(k, f, **w) for k,f in ways.items()],'as shipped'

def with_runs(f, runs):
    pack = packing.pack_padded
    with patched((training, 'pack_padded', lambda parts, max_runs=None: pack(parts, runs))): return f()

def profile(lab):
    "Where the time of the shipped paths goes, by torch's own profiler, which sees the calling thread alone."
    from torch.profiler import ProfilerActivity, profile as record
    a,b = lab.short[:128],lab.short[128:256]; step = our_step(lab, a, b, 128, 'fp32')
    jobs = {f'{p} {name}': lambda e=engine(lab, p), t=texts: e.encode(t) for p in ('int8', 'fp32') for name,texts in lab.corpora.items()} | {'training step, 128 pairs': step}
    for name,f in jobs.items():
        with patched((inference, 'workers', alone)): f()
        with patched((inference, 'workers', alone)), record(activities=[ProfilerActivity.CPU]) as p: f()
        rows = sorted(p.key_averages(), key=lambda r: -r.self_cpu_time_total); whole = sum(r.self_cpu_time_total for r in rows)
        print(f'{name}: ' + ', '.join(f'{r.key.replace("aten::", "")[:44]} {r.self_cpu_time_total/whole:.1%}' for r in rows[:10]), flush=True)

def main():
    p = argparse.ArgumentParser(); p.add_argument('--what', default='encode,latency,train,profile'); p.add_argument('--rounds', type=int, default=3); p.add_argument('--quick', action='store_true')
    p.add_argument('--only', default='', help='run the ways whose name holds one of these words, with commas between; and what ships')
    o = p.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lab = Lab(folder, o.quick)
        print(f'{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}')
        topics = {f'encode {name}': lambda t=t: encode(lab, t) for name,t in lab.corpora.items()} if 'encode' in o.what else {}
        if 'latency' in o.what: topics['latency'] = lambda: latency(lab)
        if 'train' in o.what: topics['train'] = lambda: train(lab)
        for title,make in topics.items():
            with torch.no_grad() if title != 'train' else torch.enable_grad(): contenders,base = make()
            contenders = [c for c in contenders if c.name==base or any(word in c.name for word in o.only.split(','))]
            rows = compare(contenders, alternate(contenders, o.rounds), base, {k: matmul_peak(k) for k in ('fp32', 'int8')})
            print(f'\n| {title} | per second | ratio (low to high) | share of the peak |\n|---|---|---|---|')
            for r in rows: print(f'| {r["name"]} | {r["rate"]["median"]:,.1f} | {r["ratio"]["median"]:.2f} ({r["ratio"]["low"]:.2f} to {r["ratio"]["high"]:.2f}) | {r["share"]:.0%} |', flush=True)
        if 'profile' in o.what: print(); profile(lab)

if __name__=='__main__': main()
