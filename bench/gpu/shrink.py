"""Carry a trained model over a narrow line: `pack MODEL_DIR OUT_DIR` writes it as parts of at most 15 MiB, the token table in 8 bits (one scale
per row) and all else in fp16; `unpack OUT_DIR MODEL_DIR` makes an ordinary model folder of them. 38 M parameters: 154 MB -> 62 MB."""
import io, json, sys
from pathlib import Path

import numpy as np
import torch

from text_embedding.checkpoint import load_checkpoint, save_checkpoint
from text_embedding.model import TextEmbeddingModel, TransformerConfig
from text_embedding.tokenizer import Tokenizer

PART = 15*2**20

def pack(model_dir, out):
    model,tokenizer,info = load_checkpoint(model_dir)
    out = Path(out); out.mkdir(parents=True, exist_ok=True)
    tokenizer.save(out/'tokenizer.json')
    (out/'model.json').write_text(json.dumps(dict(config=model.config.to_dict(), info={k: v for k,v in info.items() if k!='history'}), default=str))
    arrays = {}
    for name,p in model.state_dict().items():
        if name=='token_embedding.weight':
            scale = p.abs().amax(1, keepdim=True).clamp(min=1e-12)/127
            arrays |= {name+'.int8': (p/scale).round().to(torch.int8).numpy(), name+'.scale': scale.numpy()}
        else: arrays[name] = p.half().numpy()
    buffer = io.BytesIO(); np.savez(buffer, **arrays); data = buffer.getvalue()
    for i in range(0, len(data), PART): (out/f'weights.{i//PART:02d}').write_bytes(data[i:i+PART])
    print(f'{len(data)/1e6:.1f} MB in {-(-len(data)//PART)} part(s)')

def unpack(packed, model_dir):
    packed = Path(packed); card = json.loads((packed/'model.json').read_text())
    with np.load(io.BytesIO(b''.join(p.read_bytes() for p in sorted(packed.glob('weights.*')))), allow_pickle=False) as f: arrays = {k: torch.from_numpy(f[k]) for k in f.files}
    state = {k: v.float() for k,v in arrays.items() if not k.endswith(('.int8', '.scale'))}
    state |= {k[:-5]: arrays[k].float()*arrays[k[:-5]+'.scale'] for k in arrays if k.endswith('.int8')}
    model = TextEmbeddingModel(TransformerConfig.from_dict(card['config']))
    model.load_state_dict(state)
    save_checkpoint(model_dir, model, Tokenizer.load(packed/'tokenizer.json'), None, card['info'])

if __name__=='__main__': dict(pack=pack, unpack=unpack)[sys.argv[1]](*sys.argv[2:])
