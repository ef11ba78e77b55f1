"Bad input: one clear line that names the numbers and the fix, exit status not 0, and nothing that was saved is lost."
import errno, json, os, shutil, stat, subprocess, sys

import numpy as np
import pytest
from conftest import ROOT, cli

from text_embedding import CheckpointError, load_model


def one_line(r, *parts):
    "The command failed with one line that holds all `parts`."
    lines = [l for l in r.stderr.splitlines() if l.startswith('text-embedding: error:')]
    assert r.returncode==2 and len(lines)==1 and 'Traceback' not in r.stderr, (r.returncode, r.stderr)
    for p in parts: assert str(p) in lines[0], (p, lines[0])
    return lines[0]


@pytest.fixture(scope='module')
def model(trained): return load_model(trained)


# ---- texts

@pytest.mark.parametrize('text', ['', ' ', '\n\t \u2003'])
def test_empty_text(model, text, tmp_path, trained):
    with pytest.raises(ValueError, match=r'texts\[1\] is empty'): model.encode(['fine', text])
    with pytest.raises(ValueError, match=r'texts\[0\] is empty'): model.encode(text)


def test_long_text_is_cut_at_the_context_length(model):
    long = 'the small animal called cat '*4000
    assert len(long) > 100_000
    v = model.encode([long, 'short'])
    assert np.isfinite(v).all() and np.allclose(np.linalg.norm(v, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(v[0], model.encode(long[:20_000]), atol=1e-5)


def test_lone_surrogates(model): np.testing.assert_allclose(model.encode('a \ud800 b'), model.encode('a \ufffd b'), atol=1e-6)


@pytest.mark.parametrize('bad', [None, 3, b'bytes', ['nested'], float('nan')])
def test_non_string_names_its_index(model, bad):
    with pytest.raises(TypeError, match=r'texts\[2\] is '+type(bad).__name__): model.encode(['a', 'b', bad])


def test_bad_arguments(model):
    with pytest.raises(ValueError, match='top_k=0'): model.find_similar('a', ['b'], top_k=0)
    with pytest.raises(ValueError, match='truncate_dim=999.*256'): model.encode('a', truncate_dim=999)
    with pytest.raises(ValueError, match='max_length=99999'): model.encode('a', max_length=99999)
    assert model.find_similar('a', [], top_k=3)==[]


# ---- checkpoints

def test_missing_checkpoint(tmp_path): one_line(cli('similarity', '--model', tmp_path/'nowhere', 'a', 'b', ok=False, process=True), 'no checkpoint at', 'nowhere')


@pytest.mark.parametrize('name', ['model.safetensors', 'config.json', 'tokenizer.json', 'manifest.json'])
@pytest.mark.parametrize('harm', ['truncate', 'flip', 'delete'])
def test_damaged_checkpoint(name, harm, trained, tmp_path):
    d = tmp_path/'m'; shutil.copytree(trained, d)
    data = (d/name).read_bytes()
    if harm=='truncate': (d/name).write_bytes(data[:len(data)//2])
    elif harm=='flip': (d/name).write_bytes(data[:-20]+bytes([data[-20]^1])+data[-19:])
    else: (d/name).unlink()
    with pytest.raises(CheckpointError, match='.'): load_model(d)
    shutil.copytree(trained, tmp_path/'m.previous')                        # the last good one is used where there is one
    assert load_model(d).encode('a b').shape==(256,)


def test_foreign_checkpoint_is_never_unpickled(tmp_path):
    import pickle
    class Bomb:
        def __reduce__(self): return (os.system, (f'touch {tmp_path}/boom',))
    (tmp_path/'best_model').mkdir(); (tmp_path/'best_model/model.pt').write_bytes(pickle.dumps(Bomb()))
    one_line(cli('similarity', '--model', tmp_path/'best_model', 'a', 'b', ok=False), 'pickle', 'model.pt')
    one_line(cli('similarity', '--model', tmp_path/'best_model/model.pt', 'a', 'b', ok=False), 'pickle')
    assert not (tmp_path/'boom').exists()


def test_tokenizer_that_does_not_match(trained):
    from text_embedding import Tokenizer
    big = Tokenizer.train((f'word{i} and another{i}' for i in range(3000)), vocab_size=900)
    assert len(big) > 400
    with pytest.raises(CheckpointError, match=f'{len(big)}.*'): load_model(trained, big)


# ---- data files

CASES = {
    'no_columns.jsonl': ('{"a": "x", "b": "y"}\n', ("'anchor'", "'a'", "'b'")),
    'empty_rows.jsonl': ('{"anchor": "", "positive": "y"}\n{"anchor": " ", "positive": ""}\n', ('none of 2 rows',)),
    'broken.jsonl': ('{"anchor": "x", \n', ('cannot read',)),
    'not_parquet.parquet': ('hello', ('cannot read',)),
    'no_text.csv': ('anchor,positive\n1,2\n3,4\n', ('expected text',)),
}


@pytest.mark.parametrize('name', CASES)
def test_bad_training_file(name, tmp_path):
    f = tmp_path/name; f.write_text(CASES[name][0])
    one_line(cli('train', '--train-file', f, '--output-dir', tmp_path/'run', '--max-steps', 2, ok=False), *CASES[name][1])


def test_one_row_cannot_train(tmp_path):
    f = tmp_path/'one.jsonl'; f.write_text('{"anchor": "a single question", "positive": "a single answer"}\n')
    one_line(cli('train', '--train-file', f, '--output-dir', tmp_path/'run', '--max-steps', 2, ok=False), '1 pair', 'at least 2')


def test_some_empty_rows_are_dropped_and_counted(pairs_file, tmp_path):
    f = tmp_path/'p.jsonl'; f.write_text(pairs_file.read_text()+'\n{"anchor": "", "positive": "y"}\n{"anchor": "z", "positive": null}\n')
    r = cli('train', '--preset', 'static', '--train-file', f, '--output-dir', tmp_path/'run', '--max-steps', 2, '--batch-size', 32, '--vocab-size', 300)
    assert '402 rows read, 2 empty or repeated' in r.stderr, r.stderr


def test_missing_files(trained, tmp_path):
    one_line(cli('train', '--train-file', tmp_path/'no.csv', '--output-dir', tmp_path/'run', ok=False), 'no.csv')
    one_line(cli('encode', '--model', trained, tmp_path/'no.txt', tmp_path/'v.npy', ok=False), 'no.txt')
    one_line(cli('train', '--data-root', tmp_path/'nowhere', '--output-dir', tmp_path/'run', ok=False), 'nowhere')
    (tmp_path/'t.jsonl').write_text('{"body": "x"}\n')
    one_line(cli('encode', '--model', trained, tmp_path/'t.jsonl', tmp_path/'v.npy', ok=False), "'text'", 'body', '--column')
    (tmp_path/'t.txt').write_text('one\n')
    one_line(cli('encode', '--model', trained, tmp_path/'t.txt', tmp_path/'v.pickle', ok=False), '.npy or .parquet')
    one_line(cli('search', '--model', trained, 'q', '--candidates', tmp_path/'none.txt', ok=False), 'none.txt')


# ---- options

def test_heads_that_do_not_divide(pairs_file, tmp_path):
    one_line(cli('train', '--preset', 'encoder', '--num-heads', 7, '--train-file', pairs_file, '--output-dir', tmp_path/'run', ok=False), '512', 'num_heads=7', 'try')


@pytest.mark.parametrize('options,said', [(['--preset', 'huge'], 'huge'), (['--batch-size', 1], 'batch_size=1'), (['--datasets', 'nosuch=1'], 'nosuch'),
    (['--datasets', 'nli=many'], 'many'), (['--learning-rate', 0], 'learning_rate=0'), (['--max-steps', 0], 'max_steps=0'), (['--num-epochs', -1], 'num_epochs=-1'), (['--device', 'toaster'], 'toaster'), (['--warmup', 1.5], 'warmup=1.5')])
def test_bad_options(options, said, pairs_file, tmp_path):
    one_line(cli('train', '--train-file', pairs_file, '--output-dir', tmp_path/'run', *options, ok=False), said)


def test_bad_config_files(tmp_path, pairs_file):
    f = tmp_path/'c.json'
    f.write_text('{"batchsize": 3}'); one_line(cli('train', '--config', f, ok=False), 'batchsize')
    f.write_text('{'); one_line(cli('train', '--config', f, ok=False), 'not JSON')
    f.write_text('[1]'); one_line(cli('train', '--config', f, ok=False), 'c.json')
    f.write_text('{"batch_size": "many"}'); one_line(cli('train', '--config', f, '--train-file', pairs_file, ok=False), 'batch_size')


# ---- disks

def test_output_directory_that_cannot_be_written(pairs_file, tmp_path):
    (tmp_path/'file').write_text('in the way')
    one_line(cli('train', '--train-file', pairs_file, '--output-dir', tmp_path/'file/run', ok=False), 'cannot write', 'file/run')


FULL = '''
import builtins, errno, os, sys
from text_embedding import checkpoint
write, calls = checkpoint._write, [0]
def full(path, data):
    calls[0] += 1
    if calls[0] > {after}: raise OSError(errno.ENOSPC, "No space left on device")
    return write(path, data)
checkpoint._write = full
from text_embedding.cli import main
main(sys.argv[1:])'''


def test_full_disk_loses_nothing(pairs_file, tmp_path):
    "The disk fills up while the second evaluation is being saved: what the first one saved still loads and still resumes."
    opts = ['train', '--preset', 'static', '--train-file', str(pairs_file), '--output-dir', str(tmp_path/'run'), '--max-steps', '20', '--eval-every', '10', '--batch-size', '32', '--vocab-size', '300']
    r = subprocess.run([sys.executable, '-c', FULL.format(after=14), *opts], cwd=ROOT, capture_output=True, text=True)
    one_line(r, 'not saved', 'No space left', 'MB')
    assert load_model(tmp_path/'run/best_model').encode('a b').shape==(256,)
    assert json.loads((tmp_path/'run/last/info.json').read_text())['step']==10
    assert not list((tmp_path/'run').glob('*.tmp'))
    cli('train', '--resume-from', tmp_path/'run/last')
    assert json.loads((tmp_path/'run/last/info.json').read_text())['step']==20
