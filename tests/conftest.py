"Shared fixtures. Tests of what one process can show live in the lessons; here is what spans processes, files and the whole project."
import contextlib, io, os, subprocess, sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
os.environ.setdefault('MPLBACKEND', 'agg')
for name in ('TEXT_EMBEDDING_DATA', 'TEXT_EMBEDDING_DEBUG'): os.environ.pop(name, None)
os.environ['HF_HUB_OFFLINE'] = '1'  # tests need no hub


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
