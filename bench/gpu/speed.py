"""How fast does a run train here? Takes the options of `text-embedding train`; prints the number of steps that fill --minutes (to standard
output) and steps, pairs, tokens and FLOPs a second (to standard error). A tenth of the time is left for evaluating and saving.

    bench/gpu/speed.py --minutes 25 --prepared PREPARED [options of `text-embedding train`]"""
import argparse, sys, time

import torch

from text_embedding.cli import add_train, train_config
from text_embedding.step import Prefetch, Trainer
from text_embedding.recipe import build_model
from text_embedding.gather import prepare_data

def main(argv):
    p = argparse.ArgumentParser(); p.add_argument('--minutes', type=float, default=10.); p.add_argument('--peak', type=float, default=989., help='TFLOPS at best')
    own,rest = p.parse_known_args(argv)
    options = vars(add_train(argparse.ArgumentParser().add_subparsers()).parse_args(rest))
    config,_,_ = train_config({k: v for k,v in options.items() if k not in ('run', 'command', 'overwrite')})
    data = prepare_data(config)
    t = Trainer(config, build_model(config, data.tokenizer), data)
    warm,n = (20, 100) if t.device.type=='cuda' else (2, 6)
    with Prefetch(t.micro_batches, 0, warm+n) as batches:
        for i,batch in enumerate(batches):
            if i==warm: start,before = time.perf_counter(),t.spent()
            loss = t.train_step(batch)['loss']
        loss.item()                                          # wait for the device
    seconds = time.perf_counter()-start
    rate = {k: (t.spent()[k]-before[k])/seconds for k in ('pairs', 'tokens', 'flops')}
    steps = int(own.minutes*60*0.9*n/seconds)
    memory = f', {torch.cuda.max_memory_allocated()/2**30:.1f} GiB' if t.device.type=='cuda' else ''
    print(f'{t.device} {t.precision} {config.optimizer}: {n/seconds:.2f} steps/s, {rate["pairs"]:,.0f} pairs/s, {rate["tokens"]:,.0f} tokens/s, '
          f'{rate["flops"]/1e12:.3f} TFLOPS ({rate["flops"]/own.peak/1e12:.1%} of {own.peak:g}){memory}; {own.minutes:g} minutes are {steps:,} steps', file=sys.stderr)
    print(max(1, steps))

if __name__=='__main__': main(sys.argv[1:])
