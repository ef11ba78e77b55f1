"""Fine-tune a trained model on STS-B *train* with CoSENT, to be reported on a line of its own (249 of the 1,379 test pairs share a sentence with train):

    bench/gpu/finetune_stsb.py PREPARED MODEL_DIR OUT [EPOCHS] [LEARNING_RATE]

Dev after each epoch picks the model; test is scored once, at the end."""
import json, sys
from pathlib import Path

import numpy as np
import torch

from report import score
from text_embedding.checkpoint import load_checkpoint, save_checkpoint
from text_embedding.graded import cosent_loss
from text_embedding.optim import build_optimizer
from text_embedding.schedule import build_scheduler, optimizer_step
from text_embedding.recipe import autocast, pick_device, pick_precision
from text_embedding.gather import plain_encode, sts_judge

def main(prepared, model_dir, out, epochs=4, learning_rate=1e-4, batch_size=64, seed=0):
    epochs,learning_rate,device = int(epochs),float(learning_rate),pick_device()
    precision = pick_precision(device)
    tasks = {k: v | dict(score=np.array(v['score'])) for k,v in json.loads((Path(prepared)/'tasks.json').read_text(encoding='utf-8')).items() if k.startswith('stsb')}
    model,tokenizer,_ = load_checkpoint(model_dir, device=device)
    train,judge,rng = tasks['stsb_train'],sts_judge(tasks['stsb_dev']),np.random.default_rng(seed)
    torch.manual_seed(seed)
    n = len(train['score']); steps = epochs*(n//batch_size)
    optimizer = build_optimizer(model, 'adamw', learning_rate=learning_rate, weight_decay=0.01)
    scheduler,scaler = build_scheduler(optimizer, 'linear', steps//10, steps),torch.amp.GradScaler(device.type, enabled=precision=='fp16')
    encode = lambda texts: plain_encode(model, tokenizer, list(texts))
    best = judge(encode)['score']; print(f'before: dev {best:.2f}')
    save_checkpoint(out, model, tokenizer, None, dict(step=0, stsb_train=False))
    for epoch in range(epochs):
        model.train()
        for rows in rng.permutation(n)[:n//batch_size*batch_size].reshape(-1, batch_size):
            optimizer.zero_grad()
            with autocast(device, precision):
                a,b = (model(*(x.to(device) for x in tokenizer([train[s][i] for i in rows], max_length=128))) for s in ('sentence1', 'sentence2'))   # (b, o) each
            loss = cosent_loss((a.float()*b.float()).sum(1), torch.tensor(train['score'][rows], device=device))
            scaler.scale(loss).backward()
            optimizer_step(optimizer, scheduler, scaler, model.parameters(), 1.0)
        dev = judge(encode)['score']; print(f'epoch {epoch+1}: dev {dev:.2f}')
        if dev > best: best = dev; save_checkpoint(out, model, tokenizer, None, dict(step=(epoch+1)*(n//batch_size), stsb_train=True))
    (Path(out)/'result.json').write_text(json.dumps(score(out, prepared, ['stsb_dev', 'stsb_test']), default=float))

if __name__=='__main__': main(*sys.argv[1:])
