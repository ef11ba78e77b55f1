"""Prediction and measurement side by side, as markdown: `bench/gpu/report_speed.py OUT` reads what speed.sh wrote, and predictions.json, which was there before."""
import json, sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAMES = ('encode_short', 'encode_long', 'train', 't4_encode_short', 't4_encode_long', 't4_train')

def predicted(known:dict, name:str, device:str) -> dict:
    "Rows foretold for this file: contender without its precision -> texts or pairs a second. T4 mode is slower hardware in name only, so it has none."
    machine = 'H100' if 'H100' in device else 'T4' if 'T4' in device else None
    return {} if machine is None or name.startswith('t4_') and machine!='T4' else known[machine][name.removeprefix('t4_')]

def number(x, form=',.0f') -> str: return '-' if x is None else format(x, form)

def table(name:str, result:dict, known:dict) -> list:
    "One file as markdown lines."
    train,per = name.endswith('train'),'pairs_per_s' if name.endswith('train') else 'texts_per_s'
    foretold = predicted(known, name, result['device'])
    peak = ', '.join(f'{d} {x:,.3g}' for d,x in result['peak_tflops'].items())
    lines = [f'## {name}', '', f'{result["device"]}, torch {result["torch"]}, {result["date"]}'+(', limits of a T4' if result['t4'] else '')+(', **rehearsal: no figure counts**' if result['rehearsal'] else '')
             + f'. TFLOPS of large products: {peak}.', '', f'| contender | {"pairs" if train else "texts"}/s, predicted | measured | ratio | TFLOPS | of the peak | of the data sheet | {"GiB | waits in 10 steps | GPU busy" if train else "1 - cosine to fp32"} |',
             '|---|---|---|---|---|---|---|'+('---|---|---|' if train else '---|')]
    for row,r in result['rows'].items():
        guess = number(foretold.get(row.rsplit(', ', 1)[0]) if row.endswith(('fp16', 'bf16')) else None)
        if 'error' in r: lines.append(f'| {row} | {guess} | {r["error"].replace("|", "/")} |'+' |'*(7 if train else 5)); continue
        last = ((number(r.get('memory_gib'), '.1f'), number(r.get('waits', {}).get('count')), number(r.get('profile', {}).get('busy'), '.0%')) if train else (number(r.get('far_from_fp32'), '.0e'),))
        lines.append('| '+' | '.join([row, guess, number(r[per], ',.3g' if r[per] < 100 else ',.0f'), number(r.get('ratio'), '.2f'), number(r['tflops'], '.3g'), number(r['share_of_peak'], '.1%'), number(r['share_of_datasheet'], '.1%'), *last])+' |')
    return lines+['']+notes(train, result)

def notes(train:bool, result:dict) -> list:
    "What does not fit into the table."
    out = []
    if train:
        for row,r in result['rows'].items():
            if 'newton_schulz_ms' in r: out.append(f'Newton-Schulz alone: {r["newton_schulz_ms"]:.2f} ms, {r["newton_schulz_share"]:.1%} of a step of {row}.')
            if r.get('waits', {}).get('count'): out.append(f'{row} waits at {", ".join(f"{k} ({n})" for k,n in r["waits"]["where"].items())}.')
    else:
        even = result['break_even_texts']
        out.append(f'Compiling took {result["compile_seconds"]:.0f} s; '+(f'it pays from {even:,.0f} texts on.' if even else 'it was not faster than the padded model, and never pays.'))
        out.append('Making batches on the CPU: '+', '.join(f'{k} {us:.1f} µs a text' for k,us in result['prepare_us_per_text'].items())+'.')
    return [*out, '']

def main(out):
    known = json.loads((HERE/'predictions.json').read_text())
    for name in NAMES:
        path = Path(out)/f'{name}.json'
        if path.exists(): print('\n'.join(table(name, json.loads(path.read_text()), known)))
        else: print(f'## {name}\n\nnot measured\n')

if __name__=='__main__': main(*sys.argv[1:])
