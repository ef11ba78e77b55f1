"""Predict encode_speed.py and train_speed.py before they run: `bench/gpu/predict.py` writes predictions.json and prints them. No GPU, no measurement.

The real code runs on tensors without numbers (FakeTensorMode), and every kernel it would launch is listed with its FLOPs and the bytes it reads and writes.
A kernel takes the longer of FLOPs/rate and bytes/bandwidth, and never less than `least`; a batch takes the sum of its kernels,
or the time Python needs to launch them (`launch` each) where that is longer. The four constants of each machine are assumptions and stand below."""
import json
from unittest import mock

import numpy as np
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from speed_common import DTYPES, HERE, bert_config, config, draw_ids, grouped, lengths
from encode_speed import in_order, plain
from text_embedding.inference import token_batches
from text_embedding.model import TextEmbeddingModel
from text_embedding.optim import build_optimizer
from text_embedding.packing import embed_packed, pack_padded, pack_rows
from text_embedding.losses import info_nce
from text_embedding.tokenizer import pad_rows
from text_embedding.recipe import matmul_parameters, training_flops
from train_speed import pair_stream

MACHINES = {   # matmul: FLOP/s of products at these sizes; attention: of the attention kernel; bandwidth: bytes/s; launch: s of Python a kernel; least: s a kernel takes at least
    'H100': dict(matmul=0.6*798e12, attention=0.2*798e12, bandwidth=0.75*3.35e12, launch=6e-6, least=2e-6),
    'T4':   dict(matmul=24e12, attention=0.3*24e12, bandwidth=0.8*300e9, launch=8e-6, least=3e-6),
}

NO_KERNEL = ('device', 'detach', 'empty', 'empty_like', 'lift_fresh', '_local_scalar_dense', 'new_empty_strided', 'empty_strided', 'scalar_tensor', 'promote_types', '_unsafe_view', 'reshape', 'div_')   # div_: a GPU drops out in one kernel

def short(x:float) -> int: return int(float(f"{x:.3g}"))   # three digits are more than a prediction is good for

class Kernels(TorchDispatchMode):
    "Lists (name, FLOPs, bytes) of every operation that is no mere view."
    def __init__(self): super().__init__(); self.seen = []
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name,returns = func._schema.name.split('::')[1],func._schema.returns
        if func.namespace!='aten' or name in NO_KERNEL or any(r.alias_info is not None and not r.alias_info.is_write for r in returns): return out      # a view
        of = lambda x: [t for t in tree_leaves(x) if isinstance(t, torch.Tensor)]
        tensors,given = of((args, kwargs, out)),{t.untyped_storage()._cdata for t in of((args, kwargs))}
        if not func._schema.is_mutable and of(out) and all(t.untyped_storage()._cdata in given for t in of(out)): return out   # nothing was done
        size = sum(min(t.numel()*t.element_size(), t.untyped_storage().nbytes()) for t in tensors)        # an expanded tensor is read once
        self.seen.append((name, self.flops(name, args, out), size))
        return out
    @staticmethod
    def flops(name, args, out):
        if name in ('mm', 'bmm', 'linear'): return 2*args[0].shape[-1]*out.numel()
        if name=='addmm': return 2*args[1].shape[-1]*out.numel()
        if 'scaled_dot_product' in name or 'attention' in name:
            q,k = [t for t in args if isinstance(t, torch.Tensor) and t.ndim==4][-4 if 'backward' in name else 0:][:2] if 'backward' not in name else args[1:3]
            return (10 if 'backward' in name else 4)*q.numel()*k.shape[-2]
        return 0

def count(f) -> list:
    with Kernels() as k: f()
    return k.seen

def batch_seconds(kernels:list, m:dict, recorded:bool=False) -> float:
    "Seconds of these kernels; `recorded` as a CUDA graph, where nothing has to be launched."
    kernel = lambda name,flops,size: max(flops/(m['attention'] if 'attention' in name or 'dot_product' in name else m['matmul']), size/m['bandwidth'], m['least'])
    work = sum(kernel(*k) for k in kernels)
    return work if recorded else max(work, len(kernels)*m['launch'])

def fused(kernels:list) -> list:
    "As a compiler leaves them: products and attention as they are, all between them with a third of the traffic and of the kernels (assumed)."
    whole = [k for k in kernels if k[1]]
    rest = [k for k in kernels if not k[1]]
    return whole + [('fused', 0, sum(s for _,_,s in rest[i:i+3])/3) for i in range(0, len(rest), 3)]

def fused_norm(x, shape, weight=None, eps=None): return F.layer_norm(x, shape, weight, None, 1e-6)   # one kernel, as rms_norm on a GPU

def fakes():
    "Tensors with shapes and no numbers; the norm and the grouped keys as on a GPU."
    return FakeTensorMode(allow_non_fake_inputs=True)

def fake_model(make, dtype, mode):
    torch.set_default_dtype(DTYPES[dtype])
    try:
        with mode: return make()
    finally: torch.set_default_dtype(torch.float32)

def fake_packed(packed, mode):
    return packed._map(mode.from_tensor)

def encode_kernels(kind:str, n:int=16_384) -> tuple:  # {name: kernels of some batches}, {name: their texts}
    "The contenders of encode_speed.py, a middle batch of each."
    c,count_of = config(False),lengths(kind, n if kind=='short' else n//8)
    rows = [x.tolist() for x in np.split(draw_ids(int(count_of.sum()), c.vocab_size), count_of.cumsum()[:-1])]
    mode = fakes()
    model,model32 = (fake_model(lambda: TextEmbeddingModel(c).eval(), d, mode) for d in ('fp16', 'fp32'))
    orders = {k: o for k,o in (('32k', token_batches(count_of, 32_768)), ('8k', token_batches(count_of, 8192)), ('mixed', in_order(count_of, 32_768)))}
    some = {k: o[len(o)//2] for k,o in orders.items()}
    taken = {k: [rows[i] for i in x] for k,x in some.items()}
    real = {k: pad_rows(x) for k,x in taken.items()} | {(k, n): pack_rows(taken[k], n) for k,n in (('32k', None), ('mixed', 4), ('mixed', 8), ('mixed', 16))}
    padded = lambda k: tuple(mode.from_tensor(x) for x in real[k])
    pack = lambda k, runs: fake_packed(real[k, runs], mode)
    jobs = {'padded': ('32k', lambda: plain(model, padded('32k'))), 'padded, as they come': ('mixed', lambda: plain(model, padded('mixed'))),
            'packed, sorted': ('32k', lambda: embed_packed(model, pack('32k', None)))}
    for runs in (4, 8, 16): jobs[f'packed, as they come, {runs} runs'] = 'mixed',lambda r=runs: embed_packed(model, pack('mixed', r))
    def autocast():
        with torch.autocast('cpu', dtype=torch.float16): plain(model32, padded('8k'))
    jobs['padded, autocast, batches of a quarter'] = '8k',autocast
    try:
        from transformers import BertModel
        net = fake_model(lambda: BertModel(bert_config(c), add_pooling_layer=False).eval(), 'fp16', mode)
        jobs['BERT, padded'] = '32k',lambda: net(padded('32k')[0])                        # without the mask, which FakeTensorMode cannot look into: a little flattered
    except ImportError: pass
    found = {}
    with torch.no_grad(), mode, mock.patch('torch.nn.functional.rms_norm', fused_norm):
        for name,(order,f) in jobs.items(): found[name] = count(f),len(some[order])
        with grouped(False): found['packed, sorted, K/V expanded'] = count(jobs['packed, sorted'][1]),len(some['32k'])
    return found,float(count_of.mean())

def train_kernels(packing:bool, optimizer:str, size:int=1024) -> list:
    "One step, forward, backward, clipping and optimizer, as `Trainer` takes it."
    c = config(False)
    batch = pair_stream(c.vocab_size, size*8, size, True).batch(3)
    tokens,part = batch.n_tokens,pack_padded(batch.parts, 4)
    mode = fakes()
    model = fake_model(lambda: TextEmbeddingModel(c).train(), 'fp32', mode)
    for block in model.blocks: block.attn.dropout = 0.                                    # a CPU would leave its one kernel for many
    with mode, mock.patch('torch.nn.functional.rms_norm', fused_norm), mock.patch('text_embedding.optim.fast_dtype', lambda d: torch.float16), grouped(False):
        step = build_optimizer(model, optimizer)
        if packing: packed = fake_packed(part, mode)
        parts = [tuple(mode.from_tensor(x) for x in p) for p in batch.parts]
        def one():
            with torch.autocast('cpu', dtype=torch.float16):
                a,p = embed_packed(model, packed).split(size) if packing else [model.pool(model.stream(i, torch.zeros_like(i), m), m) for i,m in parts]
                loss = info_nce(a, p, temperature=0.05, symmetric=0.5)
            loss.backward()
            grads = [p.grad for p in model.parameters()]
            norm = torch.stack(torch._foreach_norm(grads)).norm()
            torch._foreach_mul_(grads, 1/norm)
            step.step()
        one()                                                                             # the optimizer makes its state
        model.zero_grad(set_to_none=True)
        return count(one),tokens

def bert_kernels(sort:bool, size:int=1024) -> list:
    "One step of train_speed.py's BERT, without its masks."
    from transformers import BertModel
    c,mode = config(False),fakes()
    batch,shape = pair_stream(c.vocab_size, size*8, size, sort).batch(3),bert_config(c)
    shape.attention_probs_dropout_prob,tokens = 0.,batch.n_tokens
    net = fake_model(lambda: BertModel(shape, add_pooling_layer=False).train(), 'fp32', mode)
    with mode:
        step,parts = torch.optim.AdamW(net.parameters(), lr=5e-5, fused=True),[mode.from_tensor(ids) for ids,_ in batch.parts]
        def one():
            with torch.autocast('cpu', dtype=torch.float16):
                a,p = (F.normalize(net(ids).last_hidden_state.float().mean(1), dim=-1) for ids in parts)
                loss = info_nce(a, p)
            loss.backward()
            grads = [p.grad for p in net.parameters() if p.grad is not None]
            torch._foreach_mul_(grads, 1/torch.stack(torch._foreach_norm(grads)).norm())
            step.step()
        one(); net.zero_grad(set_to_none=True)
        return count(one),tokens

def main():
    c,result = config(False),{}
    numbers = matmul_parameters(c)
    found = {k: encode_kernels(k) for k in ('short', 'long')}
    steps = {f'{o}, {"packed" if p else "padded"}': train_kernels(p, o.lower()) for o,p in (('AdamW', True), ('AdamW', False), ('Muon', True))}
    steps |= {'BERT, as they come': bert_kernels(False), 'BERT, sorted': bert_kernels(True)}
    for machine,m in MACHINES.items():
        r = result[machine] = {}
        for kind,(jobs,tokens) in found.items():
            r[f'encode_{kind}'] = {name: short(n/batch_seconds(kernels, m)) for name,(kernels,n) in jobs.items()}
            r[f'encode_{kind}'] |= {'buckets': r[f'encode_{kind}']['padded'], 'compiled, buckets': short(jobs['padded'][1]/batch_seconds(fused(jobs['padded'][0]), m))}
            r[f'roofline_{kind}'] = short(m['matmul']/(2*numbers*tokens))
        r['train'] = {name: short(1024/batch_seconds(kernels, m)) for name,(kernels,_) in steps.items()}
        r['roofline_train'] = short(m['matmul']/training_flops(c, steps['AdamW, packed'][1])*1024)
    result['counted'] = {kind: {name: dict(kernels=len(k), gflop=round(sum(x[1] for x in k)/1e9), gbyte=round(sum(x[2] for x in k)/1e9, 2), texts=n) for name,(k,n) in jobs.items()} for kind,(jobs,_) in found.items()}
    result['counted']['train'] = {name: dict(kernels=len(k), gflop=round(sum(x[1] for x in k)/1e9), gbyte=round(sum(x[2] for x in k)/1e9, 2), tokens=t) for name,(k,t) in steps.items()}
    result['tokens_per_text'] = {k: round(t, 1) for k,(_,t) in found.items()}
    result['assumed'] = MACHINES
    (HERE/'predictions.json').write_text(json.dumps(result, indent=1)+'\n')
    print(json.dumps({k: v for k,v in result.items() if k!='assumed'}, indent=1))

if __name__=='__main__': main()
