"The rules that keep the course in shape: sizes, exercises, pictures with words, letters in shape comments, every exported name shown."
import ast, json, re
from functools import lru_cache
from pathlib import Path

import pytest
from conftest import ROOT

LESSONS = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))
CASES = {'15a_runs', '17_ada', '18_long_text', '19_ablations'}               # case studies export nothing
FIVE = {'04_attention', '11_losses', '12_optim', '15_training'}              # lessons with five exercises or more
LETTERS = set('btdhkefov') | set('snmqwc')                                   # the legend of lesson 00: axes, then counts and widths named beside the code
EXERCISE = re.compile(r'^#+ Exercise: .+ {2}[★☆]{3} \(\d+ min, needed later: (yes|no)\)$', re.M)
each = pytest.mark.parametrize('nb', LESSONS, ids=lambda f: f.stem)


@lru_cache
def cells(nb): return [(c['cell_type'], ''.join(c['source']), c.get('outputs', [])) for c in json.loads(nb.read_text(encoding='utf-8'))['cells']]

def code(nb): return [(s, o) for kind,s,o in cells(nb) if kind=='code']
def prose(nb): return '\n\n'.join(s for kind,s,_ in cells(nb) if kind=='markdown')
def exported(src): return bool(re.match(r'#\| *exports?\b', src))
def printed(outputs): return ''.join(''.join(o.get('text') or '') for o in outputs)


@each
def test_lesson_has_a_size_one_can_finish(nb):
    "40 to 80 cells; code cells short enough to read at once, unless the cell says why not."
    assert 40 <= len(cells(nb)) <= 80, f'{len(cells(nb))} cells'
    sizes = sorted(len(s.splitlines()) for s,_ in code(nb))
    long = [s.splitlines()[:3] for s,_ in code(nb) if len(s.splitlines())>30 and '(long:' not in s]
    assert not long, f'cells of more than 30 lines: {long}'
    assert sum('(long:' in s for s,_ in code(nb)) <= 2, 'more than two cells that excuse themselves'
    assert sizes[len(sizes)//2] <= 11, f'the median code cell has {sizes[len(sizes)//2]} lines'


@each
def test_exercises_are_whole(nb):
    "Rated and timed; a stub that says so when it is not attempted; a hint; a folded solution that was run and found correct."
    found = [i for i,(kind,s,_) in enumerate(cells(nb)) if kind=='markdown' and EXERCISE.search(s)]
    loose = re.findall(r'^#+ Exercise.*$', prose(nb), re.M)
    assert len(loose)==len(EXERCISE.findall(prose(nb))), f'one of these headers lacks its stars, minutes or "needed later": {loose}'
    assert len(found) >= (5 if nb.stem in FIVE else 2), f'{len(found)} exercises'
    for i,end in zip(found, found[1:]+[len(cells(nb))]):
        part,name = cells(nb)[i:end],EXERCISE.search(cells(nb)[i][1])[0]
        assert any(k=='code' and 'NotImplementedError' in s for k,s,_ in part), f'no stub: {name}'
        assert any('not attempted' in printed(o) for k,_,o in part if k=='code'), f'the stub is not shown to say "not attempted": {name}'
        assert any(k=='markdown' and '<details>' in s and 'int' in s for k,s,_ in part), f'no hint: {name}'
        solution = [(s, o) for k,s,o in part if k=='code' and s.startswith('#| code-fold: true\n#| code-summary: "Solution"\n#@title Solution')]
        assert solution and any('correct' in printed(o) for _,o in solution), f'no folded solution that was found correct: {name}'


@each
def test_directives_lead_their_cells(nb):
    "The site reads `#|` lines only above everything else, Colab folds what its metadata says."
    for s,_ in code(nb):
        rest = s.splitlines()[len(re.match(r'(#\|.*\n?)*', s)[0].splitlines()):]
        assert not any(line.startswith('#|') for line in rest), s[:160]
    for c in json.loads(nb.read_text(encoding='utf-8'))['cells']:
        if '#@title Solution' in ''.join(c['source']): assert c['metadata'].get('cellView')=='form', ''.join(c['source'])[:80]


def prints(node):
    "Does this statement print when it is run?"
    if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)): return False
    if isinstance(node, ast.Call) and getattr(node.func, 'id', '')=='print': return True
    return any(prints(n) for n in ast.iter_child_nodes(node))


@each
def test_what_is_printed_is_kept(nb):
    "A cell that prints has its lines in the notebook, beside any picture."
    lost = [s[:200] for s,out in code(nb) if 'eval: false' not in s and not s.startswith('#| cuda') and prints(ast.parse(re.sub(r'^[%!].*', '', s, flags=re.M)))
            and not any(o['output_type']=='stream' for o in out)]
    assert not lost, '\n---\n'.join(lost)


@each
def test_pictures_have_words_and_are_small(nb):
    "Every picture says what it shows to those who cannot see it, and no frame of a slider is larger than 100 kB."
    silent = []
    for s,outputs in code(nb):
        for o in outputs:
            data = o.get('data', {})
            page = ''.join(data.get('text/html', ''))
            if 'te-frames' in page:
                if not re.search(r'<img alt="[^"]{25,}"', page): silent.append(s[-160:])
                assert all(len(x)*3/4 <= 100_000 for x in re.findall(r'base64,([^"]*)', page)), 'a frame of more than 100 kB'
            elif 'image/png' in data and not re.search(r'^#\| fig-alt: ".{25,}"$', s, re.M): silent.append(s[-160:])
    assert not silent, f'{len(silent)} pictures without #| fig-alt: "..." (sliders: alt=...):\n' + '\n---\n'.join(silent)
    assert sum('image/png' in o.get('data', {}) for _,out in code(nb) for o in out) >= 3, 'fewer than three pictures'


def letters_of(comment):
    "Single letters used as axes in a shape comment such as `# (b, t, d)`."
    return {x for part in comment.split(',') for x in re.findall(r'(?<![\w.])[a-z](?![\w.])', part)}

@each
def test_shape_comments_use_the_legend(nb):
    for s,_ in code(nb):
        for shape in re.findall(r'(?m)(?:^|\s)# .*?\(((?:[\w.*+/ -]+,)+[\w.*+/ -]*)\)', s):
            if not re.fullmatch(r'(?: *(?:\.\.\.|[a-z0-9*+/ -]|\d+)+,?)+', shape) or len(max(re.findall(r'\w+', shape) or [''], key=len))>1: continue   # words: a sentence, not a shape
            assert letters_of(shape) <= LETTERS, f'({shape}) uses letters outside the legend: {letters_of(shape)-LETTERS}'


@each
def test_every_exported_name_is_shown(nb):
    "A public name of the module appears in a cell that uses it, not only in the one that defines it."
    if nb.stem in CASES:
        assert not any(exported(s) for s,_ in code(nb)), 'a case study exports nothing'
        return
    module = re.search(r'#\| default_exp (\w+)', '\n'.join(s for s,_ in code(nb)))[1]
    tree = ast.parse((ROOT/f'text_embedding/{module}.py').read_text(encoding='utf-8'))
    names = [n.name for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith('_')]
    used = '\n'.join(s for s,_ in code(nb) if not exported(s))
    missing = [n for n in names if not re.search(rf'\b{n}\b', used)]
    assert not missing, f'exported, but shown in no cell: {missing}'


@each
def test_lesson_begins_and_ends_as_agreed(nb):
    "Badges for Colab and Kaggle, local instructions, time and hardware; at the end what was exported, what was left out, sources, next."
    text = prose(nb)
    assert re.search(rf'\[!\[Open in Colab\].*/nbs/{nb.name}\)', text) and re.search(rf'kaggle\.com/kernels/welcome\?src=\S*/nbs/{nb.name}\)', text), 'no badge for Colab, or none for Kaggle'
    assert 'index.ipynb#how-do-you-run-a-lesson-on-your-own-machine' in text, 'no way to run it locally'
    for want in ('**Time:**', '**What you have', '**What you leave with', 'T4'): assert want in text, f'{want} is missing'
    last = [s for kind,s,_ in cells(nb) if kind=='markdown'][-1]
    for want in ('**Left out', '**Sources', '**Next'): assert want in last, f'the last cell lacks {want}'
    assert len(re.findall(r'^- ', last, re.M)) >= 3, 'the last cell sums up in three lines'
    assert re.search(r'https?://', last), 'sources have links'


@each
def test_install_cell_is_for_hosted_notebooks_alone(nb):
    "Nothing is installed on a reader's own machine, and the line never names torch."
    install = [s for s,_ in code(nb) if 'pip' in s and 'google.colab' in s]
    assert len(install)==1 and 'eval: false' in install[0] and 'torch' not in install[0] and 'KAGGLE_KERNEL_RUN_TYPE' in install[0]


def test_index_lists_every_lesson():
    index = prose(ROOT/'nbs/index.ipynb')
    missing = [f.name for f in LESSONS if not re.search(rf'^\| \[[^]]+\]\({f.name}\) \|', index, re.M)]
    assert not missing, f'the table of lessons lacks {missing}'
    listed = [f.name for f in LESSONS if f'- {f.name}' not in (ROOT/'_quarto.yml').read_text(encoding='utf-8')]
    assert not listed, f'the side bar lacks {listed}'
