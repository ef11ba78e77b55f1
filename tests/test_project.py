"The house is in order: notebooks and package in step, README current, site whole, wheel installs, nothing of one machine in the tree."
import re, sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlparse

import pytest
from conftest import ROOT, run, tree

BIN = Path(sys.executable).parent


def test_package_is_in_step_with_notebooks(tmp_path):
    "Exporting and cleaning again changes nothing."
    t = tree(tmp_path)
    run(BIN/'nbdev_export', cwd=t); run(BIN/'nbdev_clean', cwd=t)
    changed = [f for d in ('nbs', 'text_embedding') for f in sorted((t/d).rglob('*')) if f.is_file() and '__pycache__' not in f.parts
               and (not (ROOT/f.relative_to(t)).exists() or (ROOT/f.relative_to(t)).read_bytes()!=f.read_bytes()) and f.name!='nbdev.yml']
    assert not changed, f'out of step: {[str(f.relative_to(t)) for f in changed]}; run: make export'


def test_readme_is_in_step(): run(sys.executable, ROOT/'.ci/readme.py', '--check')


def test_reference_is_in_step():
    "The reference lists every public name of every module, and its links point at the right lines."
    run(sys.executable, ROOT/'.ci/api.py', '--check')
    text = (ROOT/'nbs/api.ipynb').read_text(encoding='utf-8')
    for f in (ROOT/'text_embedding').glob('[a-z]*.py'):
        lines = f.read_text(encoding='utf-8').splitlines()
        for i,line in enumerate(lines, 1):
            if m := re.match(r'(?:def|class) ([A-Za-z]\w*)', line):
                assert f'`{m[1]}`' in text and f'/{f.name}#L{i})' in text, f'{f.stem}.{m[1]} is missing in the reference'


def test_imports_go_downward():
    "A module imports only modules of earlier lessons."
    number = {}
    for nb in (ROOT/'nbs').glob('[0-9]*.ipynb'):
        if m := re.search(r'#\| default_exp (\w+)', nb.read_text(encoding='utf-8')): number[m[1]] = nb.name
    assert len(number) >= 18
    for name,n in number.items():
        for used in re.findall(r'^ *from (?:text_embedding)?\.(\w+) import', (ROOT/f'text_embedding/{name}.py').read_text(encoding='utf-8'), re.M):
            assert number[used] < n, f'{name} (lesson {n}) imports {used} (lesson {number[used]})'


def test_first_embedding_comes_soon():
    "Beyond torch: everything that `load_model` needs within 0.3 s, the first vector of the shipped model within a second more. The best of three counts: other work can only slow it down."
    code = '''
import time, torch, numpy
start = time.perf_counter()
from text_embedding import load_model
imported = time.perf_counter()
assert load_model(device='cpu').encode('hello').shape==(256,)
print(imported-start, time.perf_counter()-imported)
'''
    runs = [[float(x) for x in run(sys.executable, '-c', code).stdout.split()] for _ in range(3)]
    assert min(r[0] for r in runs) < 0.3 and min(r[1] for r in runs) < 1, runs


def test_import_is_quick(tmp_path):
    "Importing the package takes under 0.3 s of CPU time beyond torch, every module included, and pulls in neither nbdev nor fastcore nor plotting."
    # As a reader has it: the first import writes byte code, the next ones read it. And torch's 170,000 objects are set aside: a garbage collection
    # that walks them all takes 0.1 s, starts wherever the count of new objects happens to be full, and is no cost of these modules.
    mods = ' '.join(f.stem for f in (ROOT/'text_embedding').glob('[a-z]*.py'))
    code = f'''
import gc, time, sys, torch; gc.freeze(); t = time.process_time()
import text_embedding, importlib
for m in "{mods}".split(): importlib.import_module("text_embedding."+m)
print(time.process_time()-t, [m for m in ("nbdev", "fastcore", "matplotlib", "IPython", "ipywidgets", "datasets", "scipy") if m in sys.modules])'''
    best = 9.
    for _ in range(3):   # a busy machine is not a slow import
        seconds,heavy = run(sys.executable, '-c', code, cwd='/', env=dict(PYTHONDONTWRITEBYTECODE='', PYTHONPYCACHEPREFIX=str(tmp_path))).stdout.split(' ', 1)
        best = min(best, float(seconds))
    assert heavy.strip()=='[]', heavy
    assert best < 0.3, f'{best:.2f} s'


def test_nothing_of_one_machine_in_the_tree():
    "No absolute path of a machine, no secret, no registry address, no leftover of a merge."
    bad = re.compile(r'(/work/(?!flows)|/root/|/home/\w+/|file:///|extra-index-url|BEGIN [A-Z ]*PRIVATE KEY|^<{7} |^>{7} )', re.M)
    here = Path(__file__).name
    for f in run('git', 'ls-files', '-co', '--exclude-standard').stdout.splitlines():
        p = ROOT/f
        if p.is_file() and p.suffix in ('.py', '.md', '.ipynb', '.ini', '.txt', '.yml', '.json', '.toml', '') and p.name not in (here, 'test_lessons.py'):
            text = re.sub(r'"image/png": "[^"]*"', '', p.read_text(encoding='utf-8', errors='ignore'))
            m = bad.search(text)
            assert not m, f'{f}: {m[0]!r}'


class Links(HTMLParser):
    def __init__(self): super().__init__(); self.found,self.ids = [],set()
    def handle_starttag(self, tag, attrs):
        a = dict(attrs)
        for k in ('href', 'src'):
            if a.get(k): self.found.append(a[k])
        for k in ('id', 'name'):
            if a.get(k): self.ids.add(a[k])


def test_site_has_no_broken_links(site):
    "Every lesson has a page; every internal link, anchor and image of every page exists."
    pages = {}
    for f in site.rglob('*.html'): pages[f.resolve()] = p = Links(); p.feed(f.read_text(encoding='utf-8', errors='ignore'))
    names = {f.stem for f in pages}
    assert 'index' in names and len(pages) >= len(list((ROOT/'nbs').glob('*.ipynb')))
    broken = []
    for f,p in pages.items():
        for link in p.found:
            u = urlparse(link)
            if u.scheme or u.netloc or link.startswith(('data:', 'mailto:', '#!')): continue
            target = (f if not u.path else site/unquote(u.path).lstrip('/') if u.path.startswith('/') else f.parent/unquote(u.path)).resolve()
            if target.is_dir(): target = target/'index.html'
            if not target.exists(): broken.append(f'{f.name} -> {link}')
            elif u.fragment and target in pages and unquote(u.fragment) not in pages[target].ids: broken.append(f'{f.name} -> {link} (no such anchor)')
    assert not broken, broken[:20]


SMOKE = '''
import importlib.util, json, pathlib, text_embedding
assert "site-packages" in text_embedding.__file__, text_embedding.__file__
for absent in ("nbdev", "fastcore", "pytest"): assert importlib.util.find_spec(absent) is None, absent
from text_embedding import TransformerConfig, TextEmbeddingModel, load_model, TrainConfig, train
assert (pathlib.Path(text_embedding.__file__).parent/"py.typed").exists()
rows = [dict(anchor=f"what is item {i}", positive=f"item number {i} is a thing") for i in range(300)]
pathlib.Path("pairs.jsonl").write_text("\\n".join(json.dumps(r) for r in rows))
train(TrainConfig(train_file=("pairs.jsonl",), vocab_size=300, max_steps=20, batch_size=32, output_dir="run"))
model = load_model("run")
assert model.encode(["item 3", "item 4"]).shape == (2, 256)
print(model.find_similar(query="item 7", candidates=[r["positive"] for r in rows], top_k=2))
ready = load_model()                                         # the model in the wheel
assert ready.similarity("a man rides a horse", "somebody is riding a horse") > ready.similarity("a man rides a horse", "the stock market fell") + .3
from text_embedding.lesson import check, scoreboard
scoreboard()
'''


def test_wheel_installs_in_an_empty_venv(wheel_venv, tmp_path):
    "The wheel with its requirements alone trains and searches, and works with neither network nor sources."
    wheel, = (wheel_venv/'src/dist').glob('*.whl')
    assert wheel.stat().st_size < 12e6
    bare = {line.split('==')[0].split(' @ ')[0].lower() for line in (wheel_venv/'bare.txt').read_text().splitlines()}
    assert not bare & {'nbdev', 'fastcore', 'pytest', 'ipykernel'}, 'the wheel asks for a tool of ours'
    run(wheel_venv/'v/bin/python', '-c', SMOKE, cwd=tmp_path, env=dict(TEXT_EMBEDDING_DATA=''))
    run(wheel_venv/'v/bin/text-embedding', '--help', cwd=tmp_path)
