"""The full race of lesson 19: every variant at equal processor time. CPU only, one thread.

    OMP_NUM_THREADS=1 .venv/bin/python bench/ablations.py --data-root DIR --out outputs/ablations.json [--seeds 3] [--seconds 40] [--part race]

The driver is the lesson's own: the cells of nbs/19_ablations.ipynb that begin with `# driver`. A race that is cut off goes on at its seed.
Parts: `search` tries learning rates (seed 100), `race` is the table, `again` and `own_rate` are the second look at three variants. Put the file at nbs/outputs/ablations.json to have the lesson draw it."""
import argparse, json, os, tempfile
from pathlib import Path

NOTEBOOK = Path(__file__).parents[1]/'nbs/19_ablations.ipynb'

def driver() -> dict:
    "The names that the lesson's driver cells define."
    names = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding='utf-8'))['cells']:
        source = ''.join(cell['source'])
        if source.startswith('# driver'): exec(compile(source, str(NOTEBOOK), 'exec'), names)
    return names

def main(argv=None):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument('--data-root', help='local copy of the data sets; default: TEXT_EMBEDDING_DATA, then the hub'); p.add_argument('--out', type=Path, default=Path('outputs/ablations.json'))
    p.add_argument('--seeds', type=int, default=3); p.add_argument('--seconds', type=float, default=40.); p.add_argument('--part', choices=['search', 'race', 'again', 'own_rate'], default='race')
    p.add_argument('--only', nargs='+', metavar='VARIANT', help='these variants alone')
    a = p.parse_args(argv)
    out = a.out.resolve()
    d = driver()
    d['torch'].set_num_threads(1); d['logger'].remove()
    seeds = range(a.seeds)
    variants,seeds = dict(search=(d['candidates_of'](d['SEARCH']), (100,)), race=(d['VARIANTS'], seeds), again=(d['candidates_of'](d['AGAIN']), (100,)), own_rate=(d['OWN'], seeds))[a.part]
    if a.only: variants = {n: v for n,v in variants.items() if n in a.only}
    with tempfile.TemporaryDirectory() as scratch:
        os.chdir(scratch)
        data = d['gather_data'](d['make_config'](d['CAPTIONS'] | dict(data_root=a.data_root)))
        rows = d['record'](variants, seeds, a.seconds, data, out)
    for (name,seed),r in rows.items(): print(f"{name:26} seed {seed:3}  {r['steps']:5} steps  {r['cpu']:5.1f} s  dev {r['curve'][-1][1]:.2f}", flush=True)

if __name__=='__main__': main()
