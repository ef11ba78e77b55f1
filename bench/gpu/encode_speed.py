"""Texts a second through the 38 M `encoder()` with random weights, ids to vectors: padded, packed, compiled, in a CUDA graph, and BERT of the same size.

    bench/gpu/encode_speed.py --kind short [--t4] [--out outputs/speed]      # short (15 tokens) or long (360)
    bench/gpu/encode_speed.py --kind short --device cpu --rehearse           # the same, tiny, on a CPU

All contenders run in turn in alternating rounds, medians count. Batches lie on the device already; what making them costs is on its own line.
TFLOPS counts the products of real tokens with the blocks' matrices, padding and attention scores apart."""
import copy, functools, math, sys, time
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from speed_common import DTYPES, about, alternate, arguments, bert_config, config, datasheet, draw_ids, fp16_only, grouped, lengths, matmul_peak, save, seconds, sync, t4_limits, words
from text_embedding.inference import token_batches
from text_embedding.model import TextEmbeddingModel
from text_embedding.packing import embed_packed, pack_rows, pool_runs
from text_embedding.tokenizer import pad_rows
from text_embedding.recipe import matmul_parameters

@dataclass
class Job:
    "A way to embed: what it does with a batch, and the batches."
    f:object               # batch -> (b, o)
    batches:list
    texts:list             # index array of each batch
    context:object=nullcontext
    @torch.inference_mode()
    def __call__(self):
        with self.context():
            for b in self.batches: self.f(b)

def in_order(n_tokens, budget):
    "Batches of texts as they come, of at most `budget` real tokens."
    cuts = np.searchsorted(n_tokens.cumsum(), np.arange(budget, n_tokens.sum(), budget))
    return [b for b in np.split(np.arange(len(n_tokens)), np.unique(cuts)) if len(b)]

def varlen(model, packed):
    "Attention in one kernel for all texts, whatever their lengths (torch 2.10 and newer)."
    from torch.nn.attention.varlen import varlen_attn
    n = torch.bincount(packed.text, minlength=packed.n_texts)[packed.order]               # (b,) tokens of each text, as they lie
    edges,longest = F.pad(n.cumsum(0), (1, 0)).int(),max(r.t for r in packed.runs)
    def attend(q, k, v, mask=None, causal=False, dropout=0.):
        q,k,v = (x[0].transpose(0, 1).contiguous() for x in (q, k, v))                    # (m, h or k, e)
        return varlen_attn(q, k, v, edges, edges, longest, longest, enable_gqa=True).transpose(0, 1)[None]
    x = model.stream(packed.ids[None], packed.positions[None], attend=attend)[0]
    out = pool_runs(model, packed, x)
    return torch.empty_like(out).index_copy(0, packed.order, out)

def plain(model, batch):
    "The forward pass without its checks: what a compiler or a CUDA graph takes whole."
    ids,mask = batch
    positions = torch.arange(ids.shape[1], device=ids.device).expand_as(ids)
    return model.pool(model.stream(ids, positions, mask), mask)

def bert(c, device, dtype):
    from transformers import BertModel
    net = BertModel(bert_config(c), add_pooling_layer=False).to(device, dtype).eval()
    def f(batch):
        ids,mask = batch
        x,real = net(ids, attention_mask=mask.long()).last_hidden_state,mask[..., None].to(dtype)
        return F.normalize((x*real).sum(1)/real.sum(1), dim=-1)
    return f

def to_bucket(n, sizes): return next(s for s in sizes if s >= n)

def bucketed(rows, sizes, budget, device):
    "Padded batches of few shapes: each row as long as its bucket, each batch as full as the others; the last one of a bucket is filled up with its first row."
    batches,texts,which = [],[],np.array([to_bucket(len(r), sizes) for r in rows])
    for t in sizes:
        mine,n = np.flatnonzero(which==t),max(1, budget//t)
        for i in range(0, len(mine), n):
            part = mine[i:i+n]
            ids,mask = (F.pad(x, (0, t-x.shape[1])) for x in pad_rows([rows[j] for j in [*part, *[part[0]]*(n-len(part))]]))
            batches.append((ids.to(device), mask.to(device))); texts.append(part)
    return batches,texts

def graphed(f, batch):
    "Record the kernels of one batch, then replay them without Python."
    still = tuple(x.clone() for x in batch)
    side = torch.cuda.Stream(); side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side), torch.inference_mode():
        for _ in range(3): f(still)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.inference_mode(), torch.cuda.graph(graph): out = f(still)
    def replay(b):
        for s,x in zip(still, b): s.copy_(x)
        graph.replay(); return out
    return replay

def contenders(a, models, reference, rows, budget):
    "Name -> Job, or the reason why there is none."
    device,n = a.device,np.array([len(r) for r in rows])
    orders = {'32k': token_batches(n, budget), '8k': token_batches(n, budget//4), 'mixed': in_order(n, budget)}
    pad = functools.cache(lambda o: [tuple(x.to(device) for x in pad_rows([rows[i] for i in b])) for b in orders[o]])
    pack = functools.cache(lambda o, runs: [pack_rows([rows[i] for i in b], runs).to(device) for b in orders[o]])
    whole = lambda m: lambda b: m(*b)
    jobs = {}
    for dtype,m in models.items():
        packed = functools.partial(embed_packed, m)
        half = dtype!='fp32'
        cast = functools.partial(torch.autocast, device.type, dtype=DTYPES[dtype])
        jobs[f'padded, {dtype}'] = Job(whole(m), pad('32k'), orders['32k'])
        if not half: continue
        for runs in (4, 8, 16): jobs[f'packed, as they come, {runs} runs, {dtype}'] = Job(packed, pack('mixed', runs), orders['mixed'])
        jobs[f'packed, sorted, {dtype}'] = Job(packed, pack('32k', None), orders['32k'])
        if dtype!=next(iter(models)): continue                   # the rest once
        jobs[f'padded, autocast, batches of a quarter, {dtype}'] = Job(whole(reference), pad('8k'), orders['8k'], cast)
        jobs[f'padded, as they come, {dtype}'] = Job(whole(m), pad('mixed'), orders['mixed'])
        jobs[f'packed, sorted, K/V expanded, {dtype}'] = Job(packed, pack('32k', None), orders['32k'], lambda: grouped(False))
        if not a.t4:
            jobs[f'packed, sorted, enable_gqa, {dtype}'] = Job(packed, pack('32k', None), orders['32k'], lambda: grouped(True))
            jobs[f'padded, enable_gqa, {dtype}'] = Job(whole(m), pad('32k'), orders['32k'], lambda: grouped(True))
            jobs[f'packed, as they come, varlen_attn, {dtype}'] = Job(functools.partial(varlen, m), pack('mixed', None), orders['mixed'])
        try: jobs[f'BERT, padded, {dtype}'] = Job(bert(m.config, device, DTYPES[dtype]), pad('32k'), orders['32k'])
        except ImportError: jobs[f'BERT, padded, {dtype}'] = 'not installed'
    return jobs

def compiled(a, model, dtype, rows, sizes, budget):
    "torch.compile with one shape a bucket, and one bucket in a CUDA graph, at a full batch and at 32 texts."
    torch._dynamo.config.recompile_limit = 64
    eager = functools.partial(plain, model)
    fast = torch.compile(eager, dynamic=False, backend='eager' if a.rehearse and a.device.type=='cpu' else 'inductor')
    batches,texts = bucketed(rows, sizes, budget, a.device)
    start = time.perf_counter()
    with torch.inference_mode():
        for i in {b[0].shape: i for i,b in enumerate(batches)}.values(): fast(batches[i])
    sync(a.device)
    jobs,spent = {f'compiled, buckets, {dtype}': Job(fast, batches, texts), f'buckets, {dtype}': Job(eager, batches, texts)},time.perf_counter()-start
    full = max((b[0].shape[1] for b in batches), key=lambda t: sum(len(i) for b,i in zip(batches, texts) if b[0].shape[1]==t))
    one = [(b, i) for b,i in zip(batches, texts) if b[0].shape[1]==full][0]
    for n in sorted({32, len(one[1])}):
        n = min(n, len(one[1]))
        batch,index,repeat = tuple(x[:n].clone() for x in one[0]),one[1][:n],2 if a.rehearse else max(1, 2048//n)
        jobs[f'one bucket ({full} tokens), {n} texts, {dtype}'] = Job(eager, [batch]*repeat, [index]*repeat)
        name = f'one bucket ({full} tokens), {n} texts, CUDA graph, {dtype}'
        try: jobs[name] = Job(graphed(eager, batch), [batch]*repeat, [index]*repeat) if a.device.type=='cuda' else 'needs CUDA'
        except Exception as e: jobs[name] = words(e)
    return jobs,spent

@torch.inference_mode()
def far(job, reference, rows) -> float:
    "How far the first texts are from the fp32 model's: 1 - the smallest cosine."
    some = job.texts[0][:64]
    with job.context(): got = job.f(job.batches[0])[:len(some)].float()
    ids,mask = pad_rows([rows[i] for i in some])
    return 1-F.cosine_similarity(got, reference(ids.to(got.device), mask.to(got.device)).float()).min().item()

def main(argv):
    a = arguments(__doc__, argv, kind=dict(choices=('short', 'long'), default='short'), texts=dict(type=int, default=0, help='how many'), budget=dict(type=int, default=0, help='tokens of a batch'))
    short,c = a.kind=='short',config(a.rehearse)
    n = a.texts or ((48 if short else 3) if a.rehearse else (65_536 if short else 4096))
    count = lengths(a.kind, n)
    flat = draw_ids(int(count.sum()), c.vocab_size)
    rows,budget = [x.tolist() for x in np.split(flat, count.cumsum()[:-1])],a.budget or (512 if a.rehearse else 32_768)
    sizes = [8, 16, 24, 32, 48, 64, 96, 128] if short else [256, 320, 384, 448, 512]
    reference = TextEmbeddingModel(c).to(a.device).eval()
    names = ['fp16'] if fp16_only(a) else ['fp16', 'bf16', 'fp32']
    models = {d: reference if d=='fp32' else copy.deepcopy(reference).to(DTYPES[d]) for d in names}
    with t4_limits(a.t4, a.device):
        peak = {d: matmul_peak(a.device, d, a.rehearse) for d in DTYPES if d=='fp32' or d in names}
        all_jobs = contenders(a, models, reference, rows, budget)
        try: more,spent = compiled(a, models['fp16'], 'fp16', rows, sizes, budget)
        except Exception as e: more,spent = {'compiled, buckets, fp16': words(e)},math.nan
        all_jobs |= more
        jobs = {k: j for k,j in all_jobs.items() if isinstance(j, Job)}
        took = alternate(jobs, a.device, 1 if a.rehearse else 7)
        result = {k: score(j, took[k], reference, rows, matmul_parameters(c), peak[k.split()[-1]], datasheet(about(a)['device'], k.split()[-1])) if k in jobs else dict(error=j) for k,j in all_jobs.items()}
    base = result['padded, fp16'].get('texts_per_s', math.nan)
    for r in result.values():
        if 'texts_per_s' in r: r['ratio'] = r['texts_per_s']/base
    fast,slow = (result.get(k, {}).get('texts_per_s', math.nan) for k in ('compiled, buckets, fp16', 'padded, fp16'))
    part = [rows[i] for i in in_order(count, budget)[0]]
    each = {k: seconds(f, torch.device('cpu'))/len(part)*1e6 for k,f in (('pad', lambda: pad_rows(part)), ('pack', lambda: pack_rows(part, 8)))}
    save(a, f'{"t4_" if a.t4 else ""}encode_{a.kind}', dict(kind=a.kind, texts=n, tokens=int(count.sum()), tokens_per_text=float(count.mean()), budget=budget, peak_tflops=peak, rows=result,
         compile_seconds=spent, break_even_texts=spent/(1/slow-1/fast) if fast > slow else None, prepare_us_per_text=each))

def score(job, took, reference, rows, numbers, peak, sheet):
    if isinstance(took, str): return dict(error=took)
    n,tokens = sum(len(i) for i in job.texts),sum(len(rows[j]) for i in job.texts for j in i)
    rate = 2*numbers*tokens/took/1e12
    try: off = far(job, reference, rows)
    except Exception: off = None                                  # BERT: other vectors
    return dict(texts_per_s=n/took, tokens_per_s=tokens/took, seconds=took, tflops=rate, share_of_peak=rate/peak, share_of_datasheet=sheet and rate/sheet, far_from_fp32=off)

if __name__=='__main__': main(sys.argv[1:])
