"Notebooks are committed whole: outputs saved, first cells as agreed, imports apart. That they run is shown in test_colab.py."
import ast, json, re
from pathlib import Path

import pytest
from conftest import ROOT

NOTEBOOKS = sorted(f for f in (ROOT/'nbs').glob('*.ipynb') if f.stem!='api')   # api is generated: test_project.py


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda f: f.stem)
def test_lesson_is_committed_whole(nb):
    "Outputs are saved and free of errors, widget state and paths of somebody's machine; the first cells are the agreed ones."
    cells = json.loads(nb.read_text(encoding='utf-8'))['cells']
    code = [c for c in cells if c['cell_type']=='code']
    outputs = [o for c in code for o in c['outputs']]
    assert outputs, 'no saved outputs: run .ci/nb.py run'
    assert not any(o['output_type']=='error' for o in outputs)
    text = json.dumps([{k: v for k,v in o.items() if k!='data'} | {k: v for k,v in o.get('data', {}).items() if not k.startswith('image/')} for o in outputs])
    assert not re.search(r'(/work/|/home/|/root/|/tmp/|site-packages)', text), 'a path of one machine is in the outputs'
    assert re.match(r'# .+\n\n> .+', ''.join(cells[0]['source'])), 'title cell is "# Title", blank line, "> promise"'
    assert any('colab.research.google.com' in ''.join(c['source']) and f'nbs/{nb.name}' in ''.join(c['source']) for c in cells if c['cell_type']=='markdown'), 'no badge'
    assert nb.stat().st_size < 600_000


@pytest.mark.parametrize('nb', NOTEBOOKS, ids=lambda f: f.stem)
def test_import_cells_hold_imports_only(nb):
    "A cell that imports and does more is executed again when the site is built."
    for c in json.loads(nb.read_text(encoding='utf-8'))['cells']:
        src = ''.join(c['source'])
        if c['cell_type']!='code' or 'eval: false' in src: continue
        body = ast.parse(src).body
        imports = [n for n in body if isinstance(n, (ast.Import, ast.ImportFrom))]
        assert len(imports) in (0, len([n for n in body if not isinstance(n, ast.If)])), src
