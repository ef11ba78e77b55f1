"Shared fixtures. Tests of what one process can show live in the lessons; here is what spans processes, files and the whole project."
import contextlib, io, os, re, shutil, subprocess, sys, venv
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault('MPLBACKEND', 'agg')
for name in ('TEXT_EMBEDDING_DATA', 'TEXT_EMBEDDING_DEBUG'): os.environ.pop(name, None)
os.environ['HF_HUB_OFFLINE'] = '1'  # tests need no hub
ALL = os.environ.get('TEST_ALL')=='1'  # make test-all: also what takes long
LESSONS = sorted((ROOT/'nbs').glob('[0-9]*.ipynb'))


def page_name(nb): return re.sub(r'^\d+[a-z]?_', '', nb.stem)


def tree(dst):
    "Copy what git tracks, and what it would."
    files = run('git', 'ls-files', '-co', '--exclude-standard').stdout.splitlines()
    for f in files:
        if (ROOT/f).is_file():
            (dst/f).parent.mkdir(parents=True, exist_ok=True); shutil.copy(ROOT/f, dst/f)
    return dst


def once(tmp_path_factory, name, make):
    "Make something slow once for all test processes: `make(folder)`; a failure is remembered as well."
    shared = tmp_path_factory.getbasetemp()
    if 'PYTEST_XDIST_WORKER' in os.environ: shared = shared.parent
    folder = shared/name
    with FileLock(f'{folder}.lock'):
        if (folder/'failed').exists(): pytest.fail((folder/'failed').read_text())
        if not (folder/'done').exists():
            folder.mkdir(exist_ok=True)
            try: make(folder)
            except BaseException as e: (folder/'failed').write_text(str(e)); raise
            (folder/'done').touch()
    return folder


@pytest.fixture(scope='session')
def site(tmp_path_factory):
    "The built site."
    def build(folder):
        t = tree(folder/'src')
        run('git', 'init', '-q', cwd=t)
        run(sys.executable, '.ci/site.py', cwd=t, env=dict(PATH=f'{Path(sys.executable).parent}:{os.environ["PATH"]}'), timeout=600)
    return once(tmp_path_factory, 'site', build)/'src/_docs'


@pytest.fixture(scope='session')
def wheel_venv(tmp_path_factory):
    "An environment with torch, then the built wheel with its requirements alone, then a kernel: what a fresh Colab has. Its folder `widgets7` holds Colab's ipywidgets."
    def build(folder):
        src = tree(folder/'src')
        run(sys.executable, '-m', 'build', '-q', src, timeout=300)
        wheel, = (src/'dist').glob('*.whl')
        venv.create(folder/'v', with_pip=True)
        env,python = dict(PIP_CONSTRAINT=str(ROOT/'constraints.txt')),folder/'v/bin/python'
        run(python, '-m', 'pip', 'install', '-q', 'torch', env=env, timeout=1200)
        before = run(python, '-c', 'import torch; print(torch.__version__, torch.__file__)').stdout
        run(python, '-m', 'pip', 'install', '-q', wheel, env=env, timeout=1200)
        assert run(python, '-c', 'import torch; print(torch.__version__, torch.__file__)').stdout==before, 'installing the package replaced torch'
        (folder/'bare.txt').write_text(run(python, '-m', 'pip', 'freeze').stdout)
        run(python, '-m', 'pip', 'install', '-q', 'ipykernel', 'nbconvert', env=env, timeout=600)
        run(python, '-m', 'pip', 'install', '-q', '--no-deps', '--target', folder/'widgets7', 'ipywidgets==7.7.1', 'ipython-genutils==0.2.0', env=dict(PIP_CONSTRAINT=''), timeout=600)   # the tested versions name 8
    return once(tmp_path_factory, 'wheel', build)


def pytest_unconfigure(config):
    "The last line is one that anybody can read."
    reporter = config.pluginmanager.get_plugin('terminalreporter')
    if reporter is None or hasattr(config, 'workerinput'): return
    n = {k: len(reporter.stats.get(k, [])) for k in ('passed', 'failed', 'error', 'skipped')}
    print(f"{n['passed']} passed, {n['failed']+n['error']} failed, {n['skipped']} skipped", flush=True)


def run(*cmd, cwd=ROOT, timeout=600, env=None, ok=True):
    "Run a command; on an unexpected exit status show what it printed."
    r = subprocess.run([str(c) for c in cmd], cwd=cwd, timeout=timeout, capture_output=True, text=True, env={**os.environ, **(env or {})})
    assert not ok or r.returncode==0, f'{cmd} ended with {r.returncode}\n{r.stdout[-3000:]}\n{r.stderr[-3000:]}'
    return r


def cli(*args, ok=True, process=False):
    "The command line with these arguments: in this process (quick), or in one of its own. Returns returncode, stdout, stderr."
    if process: return run(sys.executable, '-m', 'text_embedding', *args, ok=ok)
    from text_embedding.cli import main
    out,err,code = io.StringIO(),io.StringIO(),0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try: main([str(a) for a in args])
        except SystemExit as e: code = e.code or 0
    r = subprocess.CompletedProcess(args, code, out.getvalue(), err.getvalue())
    assert not ok or code==0, f'{args} ended with {code}\n{r.stdout[-3000:]}\n{r.stderr[-3000:]}'
    return r


PAIRS = [('{} is a {} animal', 'the {1} animal called {0}'), ('where can I find a {} {}', 'looking for {1} {0}')]
WORDS = 'cat dog horse bird fish mouse snake frog goat sheep cow duck wolf bear lion tiger crow swan toad newt'.split()
KINDS = 'small large quick slow loud quiet young old tame wild'.split()


def make_rows():
    return [dict(anchor=a.format(w, k), positive=p.format(w, k)) for a,p in PAIRS for w in WORDS for k in KINDS]


@pytest.fixture(scope='session')
def pairs_file(tmp_path_factory):
    "400 pairs as JSONL."
    import json
    f = tmp_path_factory.mktemp('data')/'pairs.jsonl'
    f.write_text('\n'.join(json.dumps(r) for r in make_rows()))
    return f


TINY_MODEL = dict(vocab_size=400, embd_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, max_seq_len=32)


@pytest.fixture(scope='session')
def trained(pairs_file, tmp_path_factory):
    "A small trained model folder."
    out = tmp_path_factory.mktemp('run')
    cli('train', '--preset', 'static', '--train-file', pairs_file, '--output-dir', out, '--max-steps', 30, '--batch-size', 64, '--vocab-size', 400)
    return out/'best_model'
