"""Does `sdpa` agree with torch on this device, and is `grouped_kernel_is_fast` right about it?

    python3 bench/gpu/attention.py --out OUT [--device cpu]

For each precision, with and without a padding mask: the largest difference from the plain formula in float64, and the median milliseconds of
K/V repeated against `enable_gqa`, alternating. Writes OUT/attention.json."""
import argparse, json, statistics, time
from pathlib import Path

import torch
import torch.nn.functional as F
from text_embedding.attention import attention_weights, expand_heads, grouped_kernel_is_fast, padding_mask, sdpa

ATOL = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}


def wait(device):
    if device.type=='cuda': torch.cuda.synchronize()

def alternate(ways, device, rounds):
    "Median milliseconds of each way, one call of each a round."
    ms = {name: [] for name in ways}
    for r in range(rounds+2):
        for name,f in ways.items():
            wait(device); start = time.perf_counter(); f(); wait(device)
            if r >= 2: ms[name].append(1000*(time.perf_counter()-start))
    return {name: round(statistics.median(v), 3) for name,v in ms.items()}

@torch.no_grad()
def case(device, dtype, masked, b, t, h=8, n_kv=2, e=64, rounds=30):
    g = torch.Generator().manual_seed(0)
    q,k,v = (torch.randn(b, n, t, e, generator=g).to(device, dtype) for n in (h, n_kv, n_kv))
    lengths = torch.randint(1, t+1, (b, 1), generator=g)
    mask = padding_mask((torch.arange(t) < lengths).to(device)) if masked else None
    exact = attention_weights(q.double(), k.double(), mask).double() @ expand_heads(v.double(), h)
    off = (sdpa(q, k, v, mask).double() - exact).abs().max().item()
    assert off < ATOL[dtype], f'{dtype}, masked={masked}: sdpa is off by {off:.1e}'
    ms = alternate(dict(repeated=lambda: F.scaled_dot_product_attention(q, expand_heads(k, h), expand_heads(v, h), attn_mask=mask),
                        grouped=lambda: F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)), device, rounds)
    says = 'grouped' if grouped_kernel_is_fast(q, mask) else 'repeated'
    return dict(dtype=str(dtype)[6:], masked=masked, texts=b, tokens=t, off=off, **ms, chosen=says, right=ms[says] <= 1.05*min(ms['repeated'], ms['grouped']))


if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--device', default='cuda'); p.add_argument('--out', default='outputs/attention')
    a = p.parse_args(); device = torch.device(a.device)
    dtypes = [torch.float32, torch.float16, torch.bfloat16] if device.type=='cuda' else [torch.float32]
    if device.type=='cuda' and not torch.cuda.is_bf16_supported(including_emulation=False): dtypes.pop()
    sizes = [(512, 16), (64, 128), (8, 512)] if device.type=='cuda' else [(32, 16), (4, 128)]
    rows = [case(device, dtype, masked, *size, rounds=30 if device.type=='cuda' else 5) for dtype in dtypes for masked in (False, True) for size in sizes]
    for r in rows: print('  '.join(f'{k}={v:.1e}' if k=='off' else f'{k}={v}' for k,v in r.items()))
    name = torch.cuda.get_device_name() if device.type=='cuda' else 'cpu'
    print(f"{name}: the choice was right in {sum(r['right'] for r in rows)} of {len(rows)} cases")
    out = Path(a.out); out.mkdir(parents=True, exist_ok=True)
    (out/'attention.json').write_text(json.dumps(dict(device=name, torch=torch.__version__, rows=rows), indent=1))
