"""Work on lessons: `build NAME` (py:percent source -> notebook + module), `export NAME`, `run NAME` (execute, store outputs),
`try FILE` (execute in the file's folder, store nothing), `png NAME` (pictures to files).

A cell with a flag (settings.ini `tst_flags`) that was not asked for by --flags is skipped and keeps the output it has.
"""
import argparse, base64, os, re, subprocess, sys, time
from pathlib import Path

os.environ.setdefault('MPLBACKEND', 'agg')
ROOT = Path(__file__).resolve().parent.parent
NBS = ROOT/'nbs'

def fold(c):
    "A solution is folded on the site (whose directives come first), in Colab and in Jupyter."
    head = ['#| code-fold: true', '#| code-summary: "Solution"', '#@title Solution']
    c.source = '\n'.join(head+[line for line in c.source.splitlines() if line not in head])
    c.metadata.update(cellView='form', jupyter=dict(source_hidden=True))

def clean(nb):
    from nbdev.clean import clean_nb
    nb.metadata.pop('widgets', None); nb.metadata.pop('jupytext', None)
    nb.metadata['kernelspec'] = dict(display_name='python3', language='python', name='python3')
    for c in nb.cells:
        for o in c.get('outputs') or []: o.get('data', {}).pop('application/vnd.jupyter.widget-view+json', None)
        if c.cell_type=='code' and '#@title Solution' in c.source: fold(c)
        if c.cell_type=='code': c.outputs = [o for o in c.get('outputs') or [] if o.output_type not in ('execute_result', 'display_data') or o.data]
    clean_nb(nb, allowed_cell_metadata_keys=['cellView', 'jupyter'])
    return nb

def export(name):
    from nbdev.export import nb_export
    nb_export(NBS/f'{name}.ipynb', lib_path=ROOT/'text_embedding')

def build(name, src):
    from execnb.nbio import read_nb, write_nb
    dest = NBS/f'{name}.ipynb'
    cmd = [sys.executable, '-m', 'jupytext', '-q', '--to', 'ipynb', '-o', str(dest), str(Path(src)/f'{name}.py')]
    if dest.exists(): cmd.insert(4, '--update')
    subprocess.run(cmd, check=True)
    write_nb(clean(read_nb(dest)), dest)
    export(name)

def run(dest, flags, store=True):
    from execnb.nbio import read_nb, write_nb
    from execnb.shell import CaptureShell
    from fastcore.foundation import working_directory
    from nbdev.config import get_config
    from nbdev.process import extract_directives
    skip = set(get_config().tst_flags.split())-set(flags.split())
    nb,start = read_nb(dest),time.time()
    def skipped(c):
        if c.cell_type!='code': return True
        src = c.source
        directives = extract_directives(c, remove=False, lang='python')
        c.source = src
        flagged = directives.get('eval:', [''])[0].lower()=='false' or bool(skip & directives.keys())
        if not flagged: c.outputs = []           # a cell that no longer prints keeps nothing
        return flagged
    shell = CaptureShell(dest, mpl_format='png')
    with working_directory(dest.parent): shell.run_all(nb, exc_stop=True, preproc=skipped)
    for c in nb.cells:
        for o in c.get('outputs') or []: shrink(o.get('data', {}))
    if store: write_nb(clean(nb), dest)
    print(f'{dest.stem}: {time.time()-start:.1f} s, {dest.stat().st_size//1024} kB, {len(nb.cells)} cells')

def fewer_colours(encoded):
    "A PNG (base64) in at most 256 colours: plots have no more that anyone sees, and take half the room."
    import io
    from PIL import Image
    old,out = base64.b64decode(encoded),io.BytesIO()
    Image.open(io.BytesIO(old)).convert('RGB').quantize(256, dither=Image.Dither.NONE).save(out, 'PNG', optimize=True)
    return base64.b64encode(out.getvalue()).decode() if len(out.getvalue())<len(old) else encoded

def shrink(data):
    "Store pictures, and the frames of sliders, in few colours."
    if 'image/png' in data: data['image/png'] = fewer_colours(''.join(data['image/png']))
    if 'te-frames' in ''.join(data.get('text/html', '')):
        data['text/html'] = re.sub(r'(?<=data:image/png;base64,)[^"]+', lambda m: fewer_colours(m[0]), ''.join(data['text/html']))

def png(name, out):
    from execnb.nbio import read_nb
    Path(out).mkdir(parents=True, exist_ok=True)
    for i,c in enumerate(read_nb(NBS/f'{name}.ipynb').cells):
        for j,o in enumerate(c.get('outputs') or []):
            p = o.get('data', {}).get('image/png')
            if p: f = Path(out)/f'{name}_{i:03d}_{j}.png'; f.write_bytes(base64.b64decode(''.join(p))); print(f)

if __name__=='__main__':
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument('do', choices=['build', 'export', 'run', 'try', 'png']); p.add_argument('names', nargs='+')
    p.add_argument('--flags', default='', help='flags of cells to run that are normally skipped, e.g. "hub slow"')
    p.add_argument('--src', default='.', help='folder of the py:percent sources'); p.add_argument('--out', default='outputs/pictures')
    a = p.parse_args(); os.chdir(ROOT)
    for n in a.names:
        if a.do=='try': run(Path(n), a.flags, store=False); continue
        n = Path(n).stem
        if a.do=='build': build(n, a.src)
        elif a.do=='export': export(n)
        elif a.do=='run': run(NBS/f'{n}.ipynb', a.flags)
        else: png(n, a.out)
