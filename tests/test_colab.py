"""A fresh Colab, simulated: an environment with the wheel and a kernel alone, each notebook by itself in an empty folder,
run top to bottom under a time limit, with no network and no data set. Colab's ipywidgets 7.7.1 in `make test`; 8 as well in `make test-all`."""
import json, os, shutil

import pytest
from conftest import ALL, ROOT, run

NOTEBOOKS = sorted((ROOT/'nbs').glob('*.ipynb'))
LIMIT = 420   # seconds, on a busy core; a lesson alone takes under 180
NOWHERE = 'http://127.0.0.1:9'                                                      # a proxy that is not there: whoever asks the network is refused at once


@pytest.mark.parametrize('widgets', ['7', pytest.param('8', marks=pytest.mark.skipif(not ALL, reason='ipywidgets 8: make test-all'))])
@pytest.mark.parametrize('nb', [f for f in NOTEBOOKS if f.stem!='api'], ids=lambda f: f.stem)
def test_lesson_runs_in_a_fresh_colab(nb, widgets, wheel_venv, tmp_path):
    shutil.copy(nb, tmp_path/nb.name)
    env = {'PATH': f'{wheel_venv}/v/bin:{os.environ["PATH"]}', 'PYTHONPATH': str(wheel_venv/'widgets7') if widgets=='7' else '', 'IPYTHONDIR': str(tmp_path/'.ipython'),
           'TEXT_EMBEDDING_DATA': '', 'HF_HUB_OFFLINE': '0', 'HOME': str(tmp_path/'home'), 'MPLBACKEND': '',
           'OMP_NUM_THREADS': '1', 'http_proxy': NOWHERE, 'https_proxy': NOWHERE, 'HTTP_PROXY': NOWHERE, 'HTTPS_PROXY': NOWHERE, 'no_proxy': '127.0.0.1,localhost'}
    (tmp_path/'home').mkdir()
    run(wheel_venv/'v/bin/jupyter', 'nbconvert', '--to', 'notebook', '--execute', nb.name, '--output', 'done.ipynb', f'--ExecutePreprocessor.timeout={LIMIT}',
        cwd=tmp_path, env=env, timeout=LIMIT+60)
    cells = json.loads((tmp_path/'done.ipynb').read_text(encoding='utf-8'))['cells']
    outputs = [o for c in cells if c['cell_type']=='code' for o in c['outputs']]
    assert not any(o['output_type']=='error' for o in outputs)
    before = json.loads(nb.read_text(encoding='utf-8'))['cells']
    for old,c in zip(before, cells, strict=True):
        if old['cell_type']!='code' or ''.join(old['source']).startswith(('#| hub', '#| slow', '#| cuda')): continue
        if any('te-frames' in ''.join(o.get('data', {}).get('text/html', '')) for o in old['outputs']) and 'frames(' in ''.join(old['source']):
            assert any('application/vnd.jupyter.widget-view+json' in o.get('data', {}) for o in c['outputs']), f'a slider is not live: {"".join(old["source"])[:120]}'
    marked = [c for c in cells if c['cell_type']=='code' and ''.join(c['source']).startswith(('#| hub', '#| slow', '#| cuda'))]
    silent = [''.join(c['source'])[:80] for c in marked if 'skipped:' not in ''.join(''.join(o.get('text', '')) for o in c['outputs'])]
    assert not silent, f'marked cells that do not say that they were skipped: {silent}'


def test_widgets_are_of_two_versions(wheel_venv):
    "Colab's ipywidgets and the current one are really what the lessons meet."
    version = lambda path: run(wheel_venv/'v/bin/python', '-c', 'import ipywidgets; print(ipywidgets.__version__)', env=dict(PYTHONPATH=str(path))).stdout.strip()
    assert version(wheel_venv/'widgets7')=='7.7.1' and version('').startswith('8.')
