"""Where does the time of a training step go, and does the loader keep up?

    bench/train_profile.py [--preset encoder] [--optimizer muon] [--batch 128] [--tokens 12] [--steps 5] [--threads N] [--padded] [--profile FILE] [--json FILE]

Random ids in random lengths (as long as captions by default): speed does not hang on what they mean. Prints milliseconds and shares of one step (forward, backward, clipping, optimizer; Newton-Schulz and dropout
apart), and how long the thread that works ahead takes for a batch. --profile writes torch's table of operators. Processor time of the training thread and wall time are both given: on a busy machine trust the first."""
import argparse, json, sys, time
from contextlib import contextmanager

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from text_embedding import optim, schedule
from text_embedding.batches import Batch
from text_embedding.presets import PRESETS
from text_embedding.model import TextEmbeddingModel
from text_embedding.recipe import TrainConfig
from text_embedding.step import Trainer
from text_embedding.gather import TrainingData

class RandomPairs:
    "Batches of pairs whose lengths are spread as in a real source: log-normal around `tokens`."
    names,share,steps_per_epoch = ['random'],np.ones(1),1000
    def __init__(self, batch_size, tokens, vocab_size, longest): self.b,self.tokens,self.v,self.longest = batch_size,tokens,vocab_size,longest
    def part(self, rng):
        n = np.clip(rng.lognormal(np.log(self.tokens), 0.35, self.b).astype(int), 3, self.longest)
        mask = torch.from_numpy(np.arange(n.max()) < n[:, None])
        return torch.from_numpy(rng.integers(5, self.v, mask.shape)).masked_fill(~mask, 0),mask
    def batch(self, t):
        rng,keys = np.random.default_rng(t),torch.arange(self.b)
        return Batch(self.part(rng), self.part(rng), None, keys, keys+self.b, 'random')

class Clock:
    "Adds up wall and processor time by name; waits for the device at both ends."
    def __init__(self, device): self.device,self.wall,self.cpu = device,{},{}
    def wait(self):
        if self.device.type=='cuda': torch.cuda.synchronize()
    @contextmanager
    def __call__(self, name):
        self.wait(); w,c = time.perf_counter(),time.process_time()
        yield
        self.wait()
        self.wall[name] = self.wall.get(name, 0)+time.perf_counter()-w; self.cpu[name] = self.cpu.get(name, 0)+time.process_time()-c

def trainer(a):
    "A trainer from random weights, on random pairs."
    c = TrainConfig(preset=a.preset, optimizer=a.optimizer, batch_size=a.batch, max_length=64, max_steps=1000, warm_start='none', stay_close=0., embedding_lr=1e-3, device=a.device, packing=not a.padded)
    c = c.resolve()
    torch.manual_seed(0); model = TextEmbeddingModel(PRESETS[a.preset]())
    return Trainer(c, model, TrainingData(None, RandomPairs(a.batch, a.tokens, model.config.vocab_size, 64), {}, {}))

def timed(clock, name, f):
    def g(*args, **kwargs):
        with clock(name): return f(*args, **kwargs)
    return g

def one_step(t, clock, step):
    "As `Trainer.train_step`, with a clock between the parts."
    with clock('loader'): batch = t.micro_batches(step)[0]
    with clock('step'):
        t.optimizer.zero_grad(set_to_none=True)
        with clock('forward'): loss = t.scaler.scale(t.loss(batch.to(t.device)))
        with clock('backward'): loss.backward()
        with clock('clip + optimizer'): schedule.optimizer_step(t.optimizer, t.scheduler, t.scaler, t.model.parameters(), t.config.max_grad_norm, t.wait)

def main(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--preset', default='encoder', choices=list(PRESETS)); p.add_argument('--optimizer', default='adamw', choices=['adamw', 'muon']); p.add_argument('--device', default='auto')
    for name,default in dict(batch=128, tokens=12, steps=5).items(): p.add_argument(f'--{name}', type=int, default=default)
    p.add_argument('--threads', type=int); p.add_argument('--padded', action='store_true'); p.add_argument('--profile', metavar='FILE'); p.add_argument('--json', metavar='FILE')
    a = p.parse_args(argv)
    if a.threads: torch.set_num_threads(a.threads)
    t = trainer(a); clock,real = Clock(t.device),optim.newton_schulz
    one_step(t, Clock(t.device), 0)                                            # the first step makes the optimizer's state
    optim.newton_schulz = timed(clock, 'Newton-Schulz', real)
    for i in range(a.steps): one_step(t, clock, 1+i)
    optim.newton_schulz = real
    whole = {k: getattr(clock, k)['step'] for k in ('wall', 'cpu')}
    print(f'{a.preset}, {t.model.num_parameters()/1e6:.0f} M parameters, {a.optimizer}, {t.device} {t.precision}, {torch.get_num_threads()} thread(s), {a.batch} pairs a step, {"padded" if a.padded else "packed"}, mean of {a.steps} steps')
    for name in clock.wall:
        print(f'{name:18} {1e3*clock.wall[name]/a.steps:8.1f} ms  {clock.wall[name]/whole["wall"]:6.1%} of a step    processor {1e3*clock.cpu[name]/a.steps:8.1f} ms  {clock.cpu[name]/whole["cpu"]:6.1%}')
    print(f'a batch is made in {clock.cpu["loader"]/whole["cpu"]:.2%} of a step: the thread that works ahead {"keeps up" if clock.wall["loader"] < whole["wall"] else "is TOO SLOW"}')
    rows = operators(t, a)
    if a.json: json.dump(dict(vars(a), wall=clock.wall, cpu=clock.cpu, operators=rows), open(a.json, 'w'), indent=1)

def operators(t, a, top=8):
    "The operators that cost most in one more step, by their own time."
    batches = t.micro_batches(1+a.steps)
    with profile(activities=[ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if t.device.type=='cuda' else [])) as prof: t.train_step(batches)
    cost = (lambda e: e.self_device_time_total) if t.device.type=='cuda' else (lambda e: e.self_cpu_time_total)
    events = sorted(prof.key_averages(), key=cost, reverse=True); whole = sum(map(cost, events)) or 1
    rows = [(e.key, e.count, cost(e)/whole) for e in events]
    print('by operator:', ', '.join(f'{k.removeprefix("aten::")} {s:.1%}' for k,_,s in rows[:top]))
    if a.profile: open(a.profile, 'w').write(prof.key_averages().table(sort_by='self_cpu_time_total', row_limit=40))
    return [r for r in rows if r[2] > 1e-3]

if __name__=='__main__': main(sys.argv[1:])
