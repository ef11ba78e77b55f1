"""What encode_speed.py and train_speed.py share: texts of the lengths of docstrings, a clock, the peak of the machine, the limits of a T4, results as JSON."""
import argparse, contextlib, json, statistics, sys, time, types
from pathlib import Path
from unittest import mock

import numpy as np
import torch

try: import loguru                                               # training.py logs with it; a bare machine may lack it
except ImportError: sys.modules['loguru'] = types.SimpleNamespace(logger=mock.MagicMock())

from text_embedding.presets import encoder

HERE = Path(__file__).resolve().parent
DTYPES = dict(fp16=torch.float16, bf16=torch.bfloat16, fp32=torch.float32)
DATASHEET = {'H100': dict(fp16=989, bf16=989, fp32=67), 'H200': dict(fp16=989, bf16=989, fp32=67), 'A100': dict(fp16=312, bf16=312, fp32=19.5), 'T4': dict(fp16=65, fp32=8.1)}  # TFLOPS, dense
SMALL = dict(vocab_size=2000, embd_dim=64, num_layers=2, mlp_ratio=2.0, output_dim=48)   # of a rehearsal

def arguments(doc:str, argv:list, **more):
    "The options both scripts have, and `more` of them."
    p = argparse.ArgumentParser(description=doc.split('\n')[0])
    p.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    p.add_argument('--rehearse', action='store_true', help='a tiny model and a few texts: does everything run?')
    p.add_argument('--t4', action='store_true', help='as on a T4: fp16, no FlashAttention, expanded K/V, 15 GB')
    p.add_argument('--out', default='outputs/speed', help='folder for the JSON files')
    for name,options in more.items(): p.add_argument(f'--{name}', **options)
    a = p.parse_args(argv)
    a.device = torch.device(a.device)
    return a

def fp16_only(a) -> bool:
    "A T4, real or imitated: bf16 would only be emulated."
    return a.t4 or a.device.type=='cuda' and torch.cuda.get_device_capability(a.device) < (8, 0)

def config(rehearse:bool, **changes): return encoder(**(SMALL if rehearse else {}), **changes)

def bert_config(c):
    "The BERT whose blocks have exactly as many numbers in their matrices: full heads, and a plain feed-forward that is wider instead of gated."
    from transformers import BertConfig
    d,each = c.embd_dim,2*c.embd_dim**2 + 2*c.embd_dim*c.kv_heads*c.head_dim + 3*c.embd_dim*c.hidden_dim
    return BertConfig(vocab_size=c.vocab_size, hidden_size=d, num_hidden_layers=c.num_layers, num_attention_heads=c.num_heads, intermediate_size=(each-4*d*d)//(2*d), max_position_embeddings=512)

def lengths(kind:str, n:int, seed:int=0) -> np.ndarray:  # (n,) for 'short' and 'long', (n, 2) for 'pairs'
    "Token counts drawn from lengths.json, which counted docstrings."
    known,rng = json.loads((HERE/'lengths.json').read_text())[kind],np.random.default_rng(seed)
    if kind=='pairs': return np.array(known)[rng.integers(len(known), size=n)]
    counts = np.array(list(known.values()))
    return rng.choice(np.array([int(k) for k in known]), n, p=counts/counts.sum())

def draw_ids(n:int, vocab:int, seed:int=0) -> np.ndarray:  # (n,) int64, 1..vocab-1
    "Token ids as frequent as words are: rank r comes in proportion to 1/r, so a few rows of the table are read and changed most of the time."
    return (vocab**np.random.default_rng(seed).random(n)).astype(np.int64).clip(1, vocab-1)

def sync(device):
    if device.type=='cuda': torch.cuda.synchronize(device)

def seconds(f, device) -> float:
    sync(device); start = time.perf_counter(); f(); sync(device)
    return time.perf_counter()-start

def alternate(jobs:dict, device, rounds:int=7) -> dict:  # name -> median seconds, or the error in words
    "Run all jobs in turn, then again in the opposite order, ...: a machine that warms up or slows down does so for all of them."
    times,broken = {k: [] for k in jobs},{}
    for i in range(-1, rounds):                                  # round -1 warms up
        for name in list(jobs)[::1 if i%2 else -1]:
            if name in broken: continue
            try: s = seconds(jobs[name], device)
            except Exception as e: broken[name] = words(e); continue
            if i>=0: times[name].append(s)
    return {k: broken.get(k) or statistics.median(times[k]) for k in jobs}

def words(e:Exception) -> str: return f'{type(e).__name__}: {(str(e).splitlines() or [""])[0][:160]}'

def matmul_peak(device, dtype:str, rehearse:bool=False) -> float:
    "TFLOPS of a large square product, the best of five: what this machine really multiplies."
    n = 256 if rehearse else 4096 if dtype=='fp32' else 8192
    x = torch.randn(n, n, device=device, dtype=DTYPES[dtype])
    x @ x
    repeat = 1 if device.type=='cpu' else 10
    best = min(seconds(lambda: [x @ x for _ in range(repeat)], device)/repeat for _ in range(5))
    return 2*n**3/best/1e12

def datasheet(name:str, dtype:str): return next((v.get(dtype) for k,v in DATASHEET.items() if k in name), None)

@contextlib.contextmanager
def grouped(yes:bool|None):
    "Let torch's `enable_gqa` share the keys (True), repeat them (False), or leave the choice to the package (None)."
    with contextlib.nullcontext() if yes is None else mock.patch('text_embedding.attention.grouped_kernel_is_fast', lambda q, mask: yes): yield

@contextlib.contextmanager
def t4_limits(on:bool, device):
    "What a T4 cannot do is switched off: FlashAttention, bf16, grouped keys, memory beyond 15 GB. Its speed is not imitated."
    if not on: yield; return
    from torch.nn.attention import SDPBackend, sdpa_kernel
    if device.type=='cuda':
        total = torch.cuda.get_device_properties(device).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1., 15e9/total), device)
    with (sdpa_kernel([SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]), grouped(False),
          mock.patch('text_embedding.optim.fast_dtype', lambda d: torch.float16 if d.type=='cuda' else torch.float32)): yield

def about(a) -> dict:
    "The machine, for the result."
    name = torch.cuda.get_device_name(a.device) if a.device.type=='cuda' else 'cpu'
    return dict(device=name, torch=torch.__version__, t4=a.t4, rehearsal=a.rehearse, date=time.strftime('%Y-%m-%d'))

def save(a, name:str, result:dict):
    "Write it whole or not at all."
    out = Path(a.out); out.mkdir(parents=True, exist_ok=True)
    part,path = out/f'{name}.part',out/f'{name}.json'
    part.write_text(json.dumps(about(a) | result, indent=1)); part.replace(path)
    print(path)
