"A corpus through `encode`: any format, any shard size, killed and resumed, refused where parts do not fit, in memory that does not grow."
import errno, io, json, os, subprocess, sys
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT, cli

from text_embedding import load_model
from text_embedding import corpus as C
from text_embedding.inference import shipped_model

SHIPPED = str(shipped_model())
TEXTS = [f'{w} {i}' for i,w in enumerate('red green blue round square small large old new fast'.split()*9)]   # 90 that differ


class Watched:
    "A model that counts what it encodes, and calls `at` before call number `n`."
    def __init__(self, model, n=None, at=None): self.inner,self.n,self.at,self.calls,self.texts = model,n,at,0,0
    def __getattr__(self, name): return getattr(self.inner, name)
    def encode(self, texts, **kw):
        self.calls += 1
        if self.calls==self.n: self.at()
        self.texts += len(texts)
        return self.inner.encode(texts, **kw)

def stop(): raise KeyboardInterrupt

@pytest.fixture(scope='module')
def model(): return load_model(device='cpu')

@pytest.fixture(scope='module')
def want(model): return model.encode(TEXTS)

@pytest.fixture
def file(tmp_path): return write(tmp_path/'t.txt', TEXTS)

def write(path, texts):
    path.write_text('\n'.join(texts)+'\n', encoding='utf-8')
    return path

def vectors(path):
    if path.suffix=='.npy': return np.load(path)
    import pyarrow.parquet as pq
    return np.stack(pq.read_table(path)['embedding'].to_numpy())

def half_done(model, file, out, shard=20, n=3, **kw):
    "A run that is interrupted in call `n`."
    with pytest.raises(KeyboardInterrupt, match=f'{n-1} finished shards.*goes on'): C.encode_corpus(Watched(model, n, stop), file, out, shard=shard, **kw)
    assert not out.exists() and len(C.finished(C.parts_folder(out)))==n-1


# ---- results

@pytest.mark.parametrize('out', ['v.npy', 'v.parquet'])
@pytest.mark.parametrize('shard', [1, 7, 90, 16_384])
def test_any_shard_size_gives_the_same_vectors(shard, out, model, want, file, tmp_path):
    r = C.encode_corpus(model, file, tmp_path/out, shard=shard)
    assert r==dict(texts=90, dim=256, blank=0, resumed=0) and sorted(p.name for p in tmp_path.iterdir())==sorted(['t.txt', out])
    np.testing.assert_allclose(vectors(tmp_path/out), want, atol=1e-6)
    np.testing.assert_allclose(vectors(tmp_path/out)[:9], [model.encode(t) for t in TEXTS[:9]], atol=1e-6)


def test_npy_is_what_numpy_saves(model, file, tmp_path):
    C.encode_corpus(model, file, tmp_path/'v.npy', shard=20)
    np.save(tmp_path/'w.npy', np.load(tmp_path/'v.npy'))
    assert (tmp_path/'v.npy').read_bytes()==(tmp_path/'w.npy').read_bytes()


def test_parquet_keeps_texts_beside_vectors(model, tmp_path):
    import pyarrow as pa, pyarrow.parquet as pq
    texts = ['plain', 'with \u2028 a separator', '🦉', 'half a \ud83d pair']
    f = tmp_path/'t.jsonl'; f.write_text('\n'.join(json.dumps(dict(text=t)) for t in texts))
    C.encode_corpus(model, f, tmp_path/'v.parquet', shard=3)
    t = pq.read_table(tmp_path/'v.parquet')
    assert t['text'].to_pylist()==texts[:3]+['half a \ufffd pair'] and t.schema.field('embedding').type==pa.list_(pa.float32(), 256)
    np.testing.assert_allclose(vectors(tmp_path/'v.parquet'), model.encode(texts), atol=1e-6)


# ---- reading

def test_rows_of_every_format(tmp_path):
    import pyarrow as pa, pyarrow.parquet as pq
    rows = ['a "quoted", text', 'null', 'two\nlines', 'x\u2028y', 'é🦉']
    (tmp_path/'a.jsonl').write_text('\n\n'.join(json.dumps(dict(id=i, text=t)) for i,t in enumerate(rows)))
    (tmp_path/'a.json').write_text(json.dumps([dict(text=t) for t in rows], indent=1))
    for suffix,sep in (('csv', ','), ('tsv', '\t')):
        quoted = ['"'+t.replace('"', '""')+'"' for t in rows]
        (tmp_path/f'a.{suffix}').write_text('\ufeffid'+sep+'text\r\n'+''.join(f'{i}{sep}{q}\r\n' for i,q in enumerate(quoted)), encoding='utf-8', newline='')
    for kind in (pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        pq.write_table(pa.table(dict(id=range(5), text=pa.array(rows).cast(kind))), tmp_path/'a.parquet', row_group_size=2)
        assert list(C.read_rows(tmp_path/'a.parquet'))==rows
    for f in ('a.jsonl', 'a.json', 'a.csv', 'a.tsv'): assert list(C.read_rows(tmp_path/f))==rows, f
    (tmp_path/'a.txt').write_bytes('\ufeffone\r\n\r\nx\u2028y\n \n\n'.encode())
    assert list(C.read_rows(tmp_path/'a.txt'))==['one', '', 'x\u2028y']


def test_reading_is_lazy(tmp_path):
    "The first text of a large file is there before the second row is looked at."
    f = tmp_path/'t.jsonl'; f.write_text('{"text": "fine"}\nno json\n')
    rows = C.stream_texts(f)
    assert next(rows)=='fine'
    with pytest.raises(ValueError, match='cannot read .*t.jsonl'): next(rows)


@pytest.mark.parametrize('name,content,said', [('a.jsonl', '{"body": "x"}\n', "no column 'text'; it has body"), ('a.jsonl', '[1]\n', 'row 1 is a JSON list'), ('a.csv', 'body,id\nx,1\n', "it has body, id"),
    ('a.parquet', 'hello', 'cannot read'), ('a.jsonl', b'{"text": "\xff"}\n', 'cannot read'), ('a.txt', '', 'holds no text'), ('a.csv', 'text\n', 'holds no text'), ('a.jsonl', '\n', 'holds no text')])
def test_bad_files_are_named(name, content, said, model, tmp_path):
    f = tmp_path/name; f.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=said) as e: C.encode_corpus(model, f, tmp_path/'v.npy')
    assert name in str(e.value) and not (tmp_path/'v.npy.parts').exists()


# ---- rows without text

@pytest.mark.parametrize('bad,said', [('{"text": " "}', 'row 31 is empty'), ('{"text": null}', 'row 31 is empty'), ('{"other": 1}', 'row 31 is empty'), ('{"text": 7}', 'row 31 is int'), ('{"text": ["a"]}', 'row 31 is list')])
def test_a_bad_row_is_named_before_any_work(bad, said, model, tmp_path):
    lines = [json.dumps(dict(text=t)) for t in TEXTS]; lines.insert(30, bad)
    watched = Watched(model)
    with pytest.raises(C.RowError, match=f't.jsonl: {said}'): C.encode_corpus(watched, write(tmp_path/'t.jsonl', lines), tmp_path/'v.npy', shard=10)
    assert watched.calls==0 and not (tmp_path/'v.npy.parts').exists()


def test_zero_and_skip(model, want, tmp_path):
    f = write(tmp_path/'t.txt', [*TEXTS[:4], '', ' ', *TEXTS[4:]])
    for out in ('v.npy', 'v.parquet'):
        r = cli('encode', '--model', SHIPPED, f, tmp_path/out, '--on-empty', 'zero', '--shard', 5)
        assert r.stdout==f'92 texts -> {tmp_path/out} (92, 256); 2 blank rows have vectors of zeros\n'
        got = vectors(tmp_path/out)
        assert not got[4:6].any(); np.testing.assert_allclose(np.delete(got, [4, 5], 0), want, atol=1e-6)
    assert cli('encode', '--model', SHIPPED, f, tmp_path/'v.npy', '--on-empty', 'skip').stdout==f'90 texts -> {tmp_path/"v.npy"} (90, 256)\n'
    np.testing.assert_allclose(np.load(tmp_path/'v.npy'), want, atol=1e-6)
    r = cli('encode', '--model', SHIPPED, f, tmp_path/'v.npy', ok=False)
    assert r.returncode==2 and 't.txt: row 5 is empty' in r.stderr and '--on-empty' in r.stderr
    f = write(tmp_path/'blank.txt', ['', 'x'])                       # a shard of nothing but blanks
    assert C.encode_corpus(model, f, tmp_path/'v.npy', shard=1, on_empty='zero')['blank']==1 and not np.load(tmp_path/'v.npy')[0].any()


# ---- killed, and resumed

@pytest.mark.parametrize('out', ['v.npy', 'v.parquet'])
def test_what_is_done_is_not_done_again(out, model, want, file, tmp_path):
    half_done(model, file, tmp_path/out)
    watched = Watched(model)
    assert C.encode_corpus(watched, file, tmp_path/out, shard=20)['resumed']==40 and watched.texts==50
    C.encode_corpus(model, file, tmp_path/('whole-'+out), shard=20)
    assert (tmp_path/out).read_bytes()==(tmp_path/('whole-'+out)).read_bytes() and not C.parts_folder(tmp_path/out).exists()
    np.testing.assert_allclose(vectors(tmp_path/out), want, atol=1e-6)


def test_a_lost_shard_is_made_again(model, want, file, tmp_path):
    half_done(model, file, tmp_path/'v.npy', n=4)
    C.finished(tmp_path/'v.npy.parts')[1].unlink()
    (tmp_path/'v.npy.parts/000003-0123456789abcdef.npy.part').write_bytes(b'torn')
    watched = Watched(model)
    C.encode_corpus(watched, file, tmp_path/'v.npy', shard=20)
    assert watched.texts==50; np.testing.assert_allclose(np.load(tmp_path/'v.npy'), want, atol=1e-6)
    assert not (tmp_path/'v.npy.parts').exists()


def test_interrupted_while_joining(model, want, file, tmp_path, monkeypatch):
    with monkeypatch.context() as m:
        m.setattr(C.os, 'replace', lambda a, b, replace=os.replace: stop() if str(b).endswith('v.npy') else replace(a, b))
        with pytest.raises(KeyboardInterrupt, match='5 finished shards'): C.encode_corpus(model, file, tmp_path/'v.npy', shard=20)
    assert sorted(p.name for p in tmp_path.iterdir())==['t.txt', 'v.npy.parts']
    watched = Watched(model); C.encode_corpus(watched, file, tmp_path/'v.npy', shard=20)
    assert watched.calls==0; np.testing.assert_allclose(np.load(tmp_path/'v.npy'), want, atol=1e-6)


def test_other_models_options_and_texts_are_refused(model, file, tmp_path):
    import torch
    out = tmp_path/'v.npy'; half_done(model, file, out)
    other = load_model(device='cpu')
    with torch.no_grad(): other.model.token_embedding.weight[3, 3] += 1e-4
    precise = load_model(device='cpu'); precise.precision = 'other'
    for m,kw,said in ((other, {}, 'another model'), (precise, {}, f'precision .{model.precision} there, other here'), (model, dict(max_length=16), 'max_length .512 there, 16 here'), (model, dict(shard=30), 'shard .20 there, 30 here'), (model, dict(column='x'), 'column')):
        with pytest.raises(ValueError, match=f'{said}.*--overwrite.*another output'): C.encode_corpus(Watched(m, 1, stop), file, out, **dict(shard=20)|kw)
    first,short = write(tmp_path/'first.txt', ['other', *TEXTS[1:]]),write(tmp_path/'short.txt', TEXTS[:20])
    with pytest.raises(ValueError, match='texts 1 to 20.*the input has changed.*--overwrite'): C.encode_corpus(Watched(model, 1, stop), first, out, shard=20)
    with pytest.raises(ValueError, match='ends after 20 texts.*the input has changed'): C.encode_corpus(Watched(model, 1, stop), short, out, shard=20)
    assert len(C.finished(tmp_path/'v.npy.parts'))==2                # a refusal takes nothing away
    assert C.encode_corpus(model, first, out, shard=20, overwrite=True)['resumed']==0
    np.testing.assert_allclose(np.load(out), model.encode(['other', *TEXTS[1:]]), atol=1e-6)


def test_a_file_that_has_grown_goes_on(model, tmp_path):
    half_done(model, write(tmp_path/'t.txt', TEXTS[:70]), tmp_path/'v.npy')
    watched = Watched(model)
    C.encode_corpus(watched, write(tmp_path/'t.txt', TEXTS), tmp_path/'v.npy', shard=20)
    assert watched.texts==50 and len(np.load(tmp_path/'v.npy'))==90


def test_standard_input(model, want, tmp_path, monkeypatch):
    "No first pass: what was done before the bad row stays, and is not done again when the row is mended."
    def piped(texts, m): monkeypatch.setattr(sys, 'stdin', io.StringIO('\n'.join(texts))); return C.encode_corpus(m, '-', tmp_path/'v.parquet', shard=20)
    with pytest.raises(C.RowError, match='standard input: row 51 is empty.*2 finished shards are in'): piped([*TEXTS[:50], '', *TEXTS[50:]], model)
    watched = Watched(model)
    assert piped(TEXTS, watched)['resumed']==40 and watched.texts==50
    np.testing.assert_allclose(vectors(tmp_path/'v.parquet'), want, atol=1e-6)
    with pytest.raises(ValueError, match='standard input holds no text'): piped([], model)
    with pytest.raises(C.RowError, match='row 2 is empty.*no shard was finished'): piped(['a', '', 'b'], model)
    assert not C.parts_folder(tmp_path/'v.parquet').exists()


def test_a_wrong_first_try_blocks_nobody(file, tmp_path):
    r = cli('encode', '--model', SHIPPED, file, tmp_path/'v.npy', '--max-length', 9999, ok=False)
    assert r.returncode==2 and 'max_length=9999' in r.stderr
    for option in (('--shard', 0), ('--batch-size', 0)): assert cli('encode', '--model', SHIPPED, file, tmp_path/'v.npy', *option, ok=False).returncode==2
    assert [p.name for p in tmp_path.iterdir()]==['t.txt']
    cli('encode', '--model', SHIPPED, file, tmp_path/'v.npy')


KILLED = '''
import os, signal, sys
from text_embedding.inference import Embedder
encode,calls = Embedder.encode,[0]
def killed(self, texts, **kw):
    calls[0] += 1
    if calls[0]==3: os.kill(os.getpid(), getattr(signal, sys.argv[1]))
    return encode(self, texts, **kw)
Embedder.encode = killed
from text_embedding.cli import main
main(sys.argv[2:])'''


@pytest.mark.parametrize('name', ['SIGINT', 'SIGTERM', 'SIGKILL'])
def test_signals(name, want, file, tmp_path):
    "A real signal: one line and exit status 2 (nothing from SIGKILL), and the same command goes on."
    out = tmp_path/'v.npy'; args = 'encode', '--model', SHIPPED, str(file), str(out), '--shard', '20'
    r = subprocess.run([sys.executable, '-c', KILLED, name, *args], cwd=ROOT, capture_output=True, text=True)
    if name=='SIGKILL': assert r.returncode==-9
    else: assert r.returncode==2 and r.stderr==f'text-embedding: error: interrupted; 2 finished shards are in {out}.parts: the same command goes on from there\n'
    assert not out.exists() and len(C.finished(tmp_path/'v.npy.parts'))==2
    r = cli(*args)
    assert r.stdout==f'90 texts -> {out} (90, 256)\n' and '2 shards are in' in r.stderr
    np.testing.assert_allclose(np.load(out), want, atol=1e-6)


# ---- places

def test_places_that_cannot_be_written(file, tmp_path, monkeypatch):
    def said(out): r = cli('encode', '--model', tmp_path/'nowhere', file, out, ok=False); assert r.returncode==2 and r.stderr.count('\n')==1; return r.stderr   # said before the model is looked for
    assert '.npy or .parquet' in said(tmp_path/'v.bin') and 'no folder' in said(tmp_path/'no/v.npy')
    (tmp_path/'d.npy').mkdir(); assert 'd.npy is a folder' in said(tmp_path/'d.npy')
    monkeypatch.setattr(C.os, 'access', lambda *a: False); assert 'cannot write' in said(tmp_path/'v.npy')


def test_a_full_disk(model, want, file, tmp_path, monkeypatch):
    "Said before any work where it can be known; otherwise the finished shards stay."
    out = tmp_path/'v.npy'
    with monkeypatch.context() as m:
        m.setattr(C.shutil, 'disk_usage', lambda p: SimpleNamespace(free=4*256*179))
        with pytest.raises(OSError, match='GB free.*GB are needed'): C.encode_corpus(Watched(model, 1, stop), file, out, shard=20)
        assert not (tmp_path/'v.npy.parts').exists()
    def full(): raise OSError(errno.ENOSPC, 'No space left on device')
    with pytest.raises(OSError, match='No space left.*2 finished shards'): C.encode_corpus(Watched(model, 3, full), file, out, shard=20)
    assert C.encode_corpus(model, file, out, shard=20)['resumed']==40
    np.testing.assert_allclose(np.load(out), want, atol=1e-6)


def test_the_parts_folder_keeps_what_is_not_ours(model, file, tmp_path):
    (tmp_path/'v.npy.parts').mkdir()
    for name in ('mine.txt', '2024-notes.txt'): (tmp_path/'v.npy.parts'/name).write_text('keep')
    C.encode_corpus(model, file, tmp_path/'v.npy', shard=20, overwrite=True)
    assert sorted(p.name for p in (tmp_path/'v.npy.parts').iterdir())==['2024-notes.txt', 'mine.txt'] and len(np.load(tmp_path/'v.npy'))==90


# ---- progress

def test_progress(model, file, tmp_path, capfd):
    "Quiet where nobody looks; otherwise the total is known, and a resumed run starts its bar where the last one stopped."
    C.encode_corpus(model, file, tmp_path/'v.npy', shard=20)
    assert capfd.readouterr().err==''
    half_done(model, file, tmp_path/'w.npy', show_progress=True)
    C.encode_corpus(model, file, tmp_path/'w.npy', shard=20, show_progress=True)
    assert '90/90' in capfd.readouterr().err


# ---- memory

MEMORY = '''
import numpy as np, resource, sys
from text_embedding import load_model
from text_embedding.corpus import encode_corpus
model = load_model(device='cpu')
if sys.argv[1]=='fake': type(model).encode = lambda self, texts, **kw: np.ones((len(texts), 256), np.float32)
else: model.encode(['warm up']*2048)
encode_corpus(model, sys.argv[2], sys.argv[3])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)'''
BETWEEN = 'import subprocess, sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True)'   # a child inherits the peak of its parent

def grows(kind, out, tmp_path):
    peaks = []
    for n in (20_000, 200_000):
        f = write(tmp_path/'t.txt', (f'a short text with a number behind it {i}' for i in range(n)))
        peaks.append(int(subprocess.run([sys.executable, '-c', BETWEEN, '-c', MEMORY, kind, f, tmp_path/out], capture_output=True, text=True, check=True, cwd=ROOT).stdout))
        assert len(vectors(tmp_path/out) if out.endswith('npy') else [0]*n)==n
    print(kind, out, [f'{p/1024:.0f} MB' for p in peaks])
    return peaks[1]/peaks[0]

@pytest.mark.parametrize('out', ['v.npy', 'v.parquet'])
def test_memory_without_a_model(out, tmp_path):
    "Ten times the texts, the same memory: all but the model itself, which is a fake."
    assert grows('fake', out, tmp_path) < 1.1

@pytest.mark.skipif(not os.environ.get('TEXT_EMBEDDING_SLOW'), reason='a minute: set TEXT_EMBEDDING_SLOW=1')
@pytest.mark.parametrize('out', ['v.npy', 'v.parquet'])
def test_memory(out, tmp_path): assert grows('real', out, tmp_path) < 1.1
