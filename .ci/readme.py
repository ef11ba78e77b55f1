"""Write README.md from nbs/index.ipynb: its markdown, its code and the text its code prints. `--check` only compares.

The owner of the repository is named once, in settings.ini: badges and install lines of all notebooks, and the site's
addresses in _quarto.yml, are rewritten from it too."""
import json, re, sys
from configparser import ConfigParser
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

def settings():
    cp = ConfigParser(delimiters=['=']); cp.read(ROOT/'settings.ini', encoding='utf-8')
    return cp['DEFAULT']

def with_owner(text, cfg):
    "Every address of this repository in `text`, with the owner of settings.ini."
    repo = re.escape(cfg['repo'])
    text = re.sub(rf'github\.com/[\w.-]+/{repo}\b', f"github.com/{cfg['user']}/{cfg['repo']}", text)
    text = re.sub(rf'(colab\.research\.google\.com/github)/[\w.-]+/{repo}\b', rf"\1/{cfg['user']}/{cfg['repo']}", text)
    return re.sub(rf'[\w.-]+\.github\.io/{repo}\b', f"{cfg['user']}.github.io/{cfg['repo']}", text)

def readme(cfg):
    out = []
    for c in json.loads((ROOT/'nbs/index.ipynb').read_text(encoding='utf-8'))['cells']:
        src = ''.join(c['source'])
        if c['cell_type']=='markdown': out.append(src)
        elif c['cell_type']=='code':
            if re.search(r'^#\|\s*(hide|eval: *false|include: *false)', src, re.M): continue
            code = '\n'.join(l for l in src.splitlines() if not l.startswith('#|'))
            shown = ''.join(''.join(o.get('text') or o.get('data', {}).get('text/plain') or '') if 'image/png' not in o.get('data', {}) else '' for o in c.get('outputs', []))
            if code.strip() and not re.search(r'^#\|\s*echo: *false', src, re.M): out.append(f'```python\n{code.strip()}\n```')
            if shown.strip(): out.append('\n'.join(('    '+l).rstrip() for l in shown.strip('\n').splitlines()))
    text = '\n\n'.join(out)+'\n'
    # on the repository's front page the lessons are notebooks under nbs/
    return with_owner(re.sub(r'\]\((\d\d[a-z]?_\w+|index)\.ipynb', r'](nbs/\1.ipynb', text), cfg)

def main(check):
    cfg,stale = settings(),[]
    targets = {ROOT/'README.md': readme(cfg)}
    for f in [*sorted((ROOT/'nbs').glob('*.ipynb')), ROOT/'_quarto.yml', ROOT/'CONTRIBUTING.md']: targets[f] = with_owner(f.read_text(encoding='utf-8'), cfg)
    for f,text in targets.items():
        if f.exists() and f.read_text(encoding='utf-8')==text: continue
        stale.append(f.relative_to(ROOT).as_posix())
        if not check: f.write_text(text, encoding='utf-8')
    if check and stale: sys.exit(f'out of step with settings.ini or nbs/index.ipynb: {", ".join(stale)}; run: make export')
    print('rewrote '+', '.join(stale) if stale else 'in step')

if __name__=='__main__': main('--check' in sys.argv)
