"""Training steps a second of the 38 M `encoder`, 1 024 pairs of 20 tokens a side: packed and padded, AdamW and Muon, fp16 and bf16, and BERT of the same size.

    bench/gpu/train_speed.py [--t4] [--out outputs/speed]
    bench/gpu/train_speed.py --device cpu --rehearse          # the same, tiny, on a CPU

All contenders run in turn in alternating rounds, medians count; `Trainer` gets its batches from a thread, as in training. Writes train.json and, for
each of ours, the 15 kernels that take longest. TFLOPS counts `training_flops`: 6 per number in the blocks' matrices and real token."""
import collections, math, sys, warnings
from dataclasses import fields
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F

from speed_common import about, alternate, arguments, bert_config, config, datasheet, draw_ids, fp16_only, lengths, matmul_peak, save, seconds, sync, t4_limits, words
from text_embedding.batches import PairStream, Ragged, TokenizedPairs
from text_embedding.model import TextEmbeddingModel
from text_embedding.schedule import build_scheduler
from text_embedding.optim import newton_schulz
from text_embedding.step import Prefetch, Trainer
from text_embedding.recipe import TrainConfig, autocast, training_flops
from text_embedding.gather import TrainingData

HAS_PACKING = 'packing' in {f.name for f in fields(TrainConfig)}

def pair_stream(vocab, n, batch_size, sort):
    "Pairs of random ids, as long as docstrings' first two sentences."
    count = lengths('pairs', n)                                                           # (n, 2)
    side = lambda i: Ragged(draw_ids(int(count[:, i].sum()), vocab, i), np.concatenate([[0], count[:, i].cumsum()]))
    pairs = TokenizedPairs(side(0), side(1), None, np.arange(n), np.arange(n)+n)          # no two texts are equal
    return PairStream(dict(pairs=pairs), batch_size=batch_size, jitter=0.1 if sort else None)

class Ours:
    "A `Trainer` and its steps."
    def __init__(self, a, precision, optimizer, packing, size):
        c = TrainConfig(preset='encoder', precision=precision, optimizer=optimizer, device=a.device.type, batch_size=size, max_steps=100_000, **({'packing': packing} if HAS_PACKING else {})).resolve()
        stream = pair_stream(config(a.rehearse).vocab_size, size*(4 if a.rehearse else 64), size, True)
        self.trainer = Trainer(c, TextEmbeddingModel(config(a.rehearse)), TrainingData(None, stream, {}, {}))
        self.step = 0
    @property
    def tokens(self): return self.trainer.tokens
    def make(self, n): self.step += n; return [self.trainer.micro_batches(s) for s in range(self.step-n, self.step)]
    def one(self, batches): return self.trainer.train_step(batches)
    def run(self, n):
        with Prefetch(self.trainer.micro_batches, self.step, self.step+n) as batches:
            for b in batches: self.one(b)
        self.step += n

class Bert:
    "What sentence-transformers does with a BERT of as many matrix numbers: a pass for each side, mean pooling, in-batch negatives, fused AdamW; without its bookkeeping."
    def __init__(self, a, precision, size, sort):
        from transformers import BertModel
        self.device,self.precision,c = a.device,precision,config(a.rehearse)
        self.model = BertModel(bert_config(c), add_pooling_layer=False).to(a.device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=5e-5, fused=True)
        self.scheduler = build_scheduler(self.optimizer, 'linear', 0, 100_000)
        self.scaler = torch.amp.GradScaler(a.device.type, enabled=precision=='fp16')
        self.stream,self.step,self.tokens = pair_stream(c.vocab_size, size*(4 if a.rehearse else 64), size, sort),0,0
    def batch(self, step): b = self.stream.batch(step); return b.pin() if self.device.type=='cuda' else b
    def make(self, n): self.step += n; return [self.batch(s) for s in range(self.step-n, self.step)]
    def embed(self, ids, mask):
        x,real = self.model(ids, attention_mask=mask.long()).last_hidden_state.float(),mask[..., None].float()
        return F.normalize((x*real).sum(1)/real.sum(1), dim=-1)
    def one(self, batch):
        self.tokens += batch.n_tokens
        batch = batch.to(self.device)
        self.optimizer.zero_grad(set_to_none=True)
        with autocast(self.device, self.precision):
            p,q = (self.embed(*part) for part in batch.parts)
            loss = F.cross_entropy(20*p@q.T, torch.arange(len(p), device=self.device))
        self.scaler.scale(loss).backward()
        self.scaler.unscale_(self.optimizer)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.scaler.step(self.optimizer); self.scaler.update(); self.scheduler.step()
    def run(self, n):
        with Prefetch(self.batch, self.step, self.step+n) as batches:
            for b in batches: self.one(b)
        self.step += n

def waits(job, n=10) -> dict:
    "How often the processor waits for the GPU in `n` steps whose batches are made, and where."
    batches = job.make(n)
    sync(torch.device('cuda'))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter('always')
        torch.cuda.set_sync_debug_mode('warn')
        try:
            for b in batches: job.one(b)
        finally: torch.cuda.set_sync_debug_mode('default')
    where = collections.Counter(f'{Path(w.filename).name}:{w.lineno}' for w in seen if 'synchroniz' in str(w.message))
    return dict(steps=n, count=sum(where.values()), where=where)

def profile(job, device, path, n=10) -> dict:
    "The kernels that take longest, to a file; and how busy they keep the GPU."
    from torch.profiler import ProfilerActivity, profile as record
    cuda = device.type=='cuda'
    batches = job.make(n)
    def steps():
        for b in batches: job.one(b)
    with record(activities=[ProfilerActivity.CPU]+[ProfilerActivity.CUDA]*cuda) as p: took = seconds(steps, device)
    table = p.key_averages()
    Path(path).write_text(table.table(sort_by='self_cuda_time_total' if cuda else 'self_cpu_time_total', row_limit=15, max_name_column_width=90))
    kernels = [e for e in p.events() if str(e.device_type).endswith('CUDA') and not getattr(e, 'is_user_annotation', False)] if cuda else []
    busy = sum(e.time_range.elapsed_us() for e in kernels)/1e6
    return dict(busy=busy/took if cuda else None, kernels_per_step=len(kernels)/n if cuda else None, file=Path(path).name)

@torch.no_grad()
def orthogonal_seconds(model, device) -> float:
    "Newton-Schulz alone, for all hidden matrices, stacked by shape as `Muon` does."
    shapes = collections.defaultdict(list)
    for p in model.blocks.parameters():
        if p.ndim==2: shapes[p.shape].append(torch.randn_like(p))
    stacks = [torch.stack(x) for x in shapes.values()]
    f = lambda: [newton_schulz(x) for x in stacks]
    f()
    return min(seconds(f, device) for _ in range(5))

def build(a, precisions, size) -> dict:
    "Name -> function that makes a contender."
    jobs = {}
    for precision in precisions:
        for packing in ([True] if HAS_PACKING else [])+[False]:
            jobs[f'AdamW, {"packed" if packing else "padded"}, {precision}'] = lambda p=precision, k=packing: Ours(a, p, 'adamw', k, size)
    jobs[f'Muon, {"packed" if HAS_PACKING else "padded"}, {precisions[-1]}'] = lambda: Ours(a, precisions[-1], 'muon', HAS_PACKING, size)
    for sort in (False, True): jobs[f'BERT, {"sorted" if sort else "as they come"}, {precisions[-1]}'] = lambda s=sort: Bert(a, precisions[-1], size, s)
    return jobs

def memory(device): return torch.cuda.memory_allocated(device) if device.type=='cuda' else 0

def warmed(a, makers, n) -> tuple:
    "Build each, take some steps; what memory it needed beyond what was there."
    jobs,result = {},{}
    for name,make in makers.items():
        before = memory(a.device)
        if a.device.type=='cuda': torch.cuda.reset_peak_memory_stats(a.device)
        try: jobs[name] = make(); jobs[name].run(n)
        except ImportError: jobs.pop(name, None); result[name] = dict(error='not installed'); continue
        except Exception as e: jobs.pop(name, None); result[name] = dict(error=words(e)); continue
        sync(a.device)
        result[name] = dict(memory_gib=(torch.cuda.max_memory_allocated(a.device)-before)/2**30 if a.device.type=='cuda' else None)
    return jobs,result

def main(argv):
    a = arguments(__doc__, argv, pairs=dict(type=int, default=0, help='of a batch'), steps=dict(type=int, default=0, help='of a round'))
    size,n,cuda = a.pairs or (16 if a.rehearse else 1024),a.steps or (2 if a.rehearse else 20),a.device.type=='cuda'
    precisions = ['fp16'] if fp16_only(a) else ['fp16', 'bf16'] if cuda or a.rehearse else ['fp32']
    prefix = 't4_' if a.t4 else ''
    Path(a.out).mkdir(parents=True, exist_ok=True)
    with t4_limits(a.t4, a.device):
        peak = {d: matmul_peak(a.device, d, a.rehearse) for d in precisions}
        jobs,result = warmed(a, build(a, precisions, size), 2 if a.rehearse else 20)
        start = {k: (j.step, j.tokens) for k,j in jobs.items()}
        took = alternate({k: (lambda j=j: j.run(n)) for k,j in jobs.items()}, a.device, 1 if a.rehearse else 7)
        for name,job in jobs.items():
            r,precision = result[name],name.split()[-1]
            if isinstance(took[name], str): r['error'] = took[name]; continue
            tokens = (job.tokens-start[name][1])/(job.step-start[name][0])                # real ones, a step
            rate = training_flops(config(a.rehearse), tokens)*n/took[name]/1e12
            sheet = datasheet(about(a)['device'], precision)
            r |= dict(steps_per_s=n/took[name], pairs_per_s=size*n/took[name], tokens_per_s=tokens*n/took[name], tokens_per_step=tokens, tflops=rate, share_of_peak=rate/peak[precision], share_of_datasheet=sheet and rate/sheet)
            try:
                if cuda: r['waits'] = waits(job)
                r['profile'] = profile(job, a.device, Path(a.out)/f'{prefix}profile_{name.replace(", ", "_").replace(" ", "_")}.txt', 2 if a.rehearse else 10)
            except Exception as e: r['profile'] = dict(error=words(e))
            if name.startswith('Muon'): s = orthogonal_seconds(job.trainer.model, a.device); r |= dict(newton_schulz_ms=s*1e3, newton_schulz_share=s*r['steps_per_s'])
    best = max((r['pairs_per_s'] for k,r in result.items() if k.startswith('BERT, as') and 'pairs_per_s' in r), default=math.nan)
    for r in result.values():
        if 'pairs_per_s' in r: r['ratio'] = r['pairs_per_s']/best
    save(a, f'{prefix}train', dict(pairs=size, steps=n, peak_tflops=peak, packing=HAS_PACKING, rows=result))

if __name__=='__main__': main(sys.argv[1:])
