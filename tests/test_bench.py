"The benchmark counts real tokens, alternates, divides within rounds, and does without peers."
import argparse, json, math

import numpy as np
import pytest

from text_embedding import bench as B, peers as P
from text_embedding.presets import encoder


def parsed(*argv):
    p = argparse.ArgumentParser(); B.add_bench(p.add_subparsers())
    return p.parse_args(['bench', *map(str, argv)])


@pytest.fixture(scope='module')
def result(tmp_path_factory):
    "A quick run of everything on a machine without peers, with a model of one narrow block."
    out = tmp_path_factory.mktemp('bench')
    def nowhere(name): raise ImportError(f'No module named {name!r}')
    with pytest.MonkeyPatch.context() as m:
        m.setattr(P, 'import_module', nowhere)
        m.setattr(P, 'encoder', lambda **kw: encoder(**kw, embd_dim=64, num_layers=1))
        args = parsed('--quick', '--rounds', 2, '--growth-to', 1000, '--json', out/'speed.json', '--picture', out/'speed.png')
        args.run(args)
    assert (out/'speed.png').read_bytes()[:4]==b'\x89PNG'
    return json.loads((out/'speed.json').read_text())


def numbers(x):
    if isinstance(x, dict): x = list(x.values())
    if isinstance(x, list): return [n for y in x for n in numbers(y)]
    return [x] if isinstance(x, (int, float)) else []


def rows(result): return [(w, r) for w,groups in result['results'].items() for table in groups.values() for r in table]


def test_everything_is_in_the_json(result):
    assert set(result)=={'machine', 'options', 'lengths', 'peaks', 'results'}
    assert {'cpu', 'cores', 'threads', 'capability', 'versions', 'date', 'load', 'load_after'} <= set(result['machine'])
    assert result['options']['seed']==0 and list(result['results'])==list(B.WHAT) and set(result['results']['encode'])=={'short', 'long'}
    assert all(map(math.isfinite, numbers(result)))
    for w,r in rows(result):
        if 'rate' in r: assert r['rate']['low'] <= r['rate']['median'] <= r['rate']['high'] and r['tokens'] > 0, r
        else: assert 'text_embedding[bench]' in r['note'] and not r['ours'], r
    assert {r['name'] for w,r in rows(result) if w=='encode' and 'rate' not in r}=={P.ST, 'sentence-transformers, bf16', 'ONNX Runtime, fp32', 'ONNX Runtime, int8'}
    assert all(len(r['seconds'])==2 for w,r in rows(result) if w in ('encode', 'static', 'train') and 'rate' in r)
    assert 'peak' in result['results']['growth']['static'][0]['note']


def test_shares_stay_below_the_peak(result):
    shares = [r['share'] for _,r in rows(result) if r.get('share') is not None]
    assert shares and all(0 < s < 1.2 for s in shares), shares
    assert all(r['share'] is None for w,r in rows(result) if w in ('static', 'growth') and 'rate' in r)      # nothing to hold them against


def test_padding_is_not_counted(result):
    "Tokens of a row are those of its texts, also where everything is padded to 512."
    for name,by in result['lengths'].items():
        table = {r['name']: r for r in result['results']['encode'][name]}
        assert table['ours, fp32']['tokens']==by['ours, bpe']['tokens'] and table['ours, fp32']['items']==by['ours, bpe']['texts']
        padded = table['reference, padded to 512']
        assert padded['tokens'] < 512*padded['items']
    d = P.distribution([[7], [7]*3, [7]*8])
    assert (d['texts'], d['tokens'], d['mean'], d['p50'], d['max'])==(3, 12, 4, 3, 8)


def test_the_table_says_what_is_missing(result):
    text = B.markdown(result)
    for part in ('### encode: short', '### latency: one text', '### train: pairs', '### growth: static', 'not installed', 'load before', 'x ours, fp32'): assert part in text, part


def test_rounds_alternate():
    "In turn, every second round backwards; the warm-up runs and does not count; `calls` follow one another; a run may return its own seconds."
    log,now = [],[0.]
    def worker(name, seconds, own=None):
        def run(): log.append(name); now[0] += seconds; return own
        return run
    who = [P.Contender('a', worker('a', 1.)), P.Contender('b', worker('b', 2.), calls=2), P.Contender('c', worker('c', 4., own=.5)), P.Contender('absent', note='not here')]
    times = B.alternate(who, rounds=2, warmup=1, clock=lambda: now[0])
    assert ''.join(log)=='cbba'+'abbc'+'cbba'
    assert times==dict(a=[[1.], [1.]], b=[[2., 2.], [2., 2.]], c=[[.5], [.5]])


def test_ratios_are_taken_within_a_round():
    "A machine that halves its speed spreads the rates and leaves the ratio alone."
    who = [P.Contender('base', items=10, tokens=50), P.Contender('new', items=20, tokens=100, flops=40., ours=True), P.Contender('absent', note='why')]
    base,new,absent = B.compare(who, dict(base=[[1.], [2.], [4.]], new=[[1.], [2.], [2.]]), 'base', dict(fp32=80.))
    assert base['rate']==dict(median=5, low=2.5, high=10) and base['ratio']==dict(median=1, low=1, high=1)
    assert new['rate']==dict(median=10, low=10, high=20) and new['ratio']==dict(median=2, low=2, high=4)
    assert new['tokens_per_second']==50 and new['share']==pytest.approx(20/80) and base['share'] is None
    assert absent['note']=='why' and 'rate' not in absent
    assert B.compare(who, dict(new=[[1.]]), 'base')[1]['base']=='new'                            # without the base, the first that was timed


def test_a_broken_peer_is_a_row_and_our_own_failure_is_an_error():
    def broken(): raise RuntimeError('no\nsuch kernel')
    who = [P.Contender('ours', lambda: None, ours=True), P.Contender('peer', broken)]
    assert list(B.alternate(who, rounds=1))==['ours'] and who[1].note=='failed: RuntimeError: no such kernel'
    assert P.peer('x', broken).run is None
    with pytest.raises(RuntimeError): B.alternate([P.Contender('ours', broken, ours=True)], rounds=1)


def test_flops_by_hand():
    assert P.forward_flops([3, 1], matrices=10, layers=2, width=5)==2*10*4+4*2*5*(9+1)


def test_bad_options_name_the_choices(tmp_path):
    with pytest.raises(ValueError, match='speed.*encode, static, latency, train, growth'): B.run_bench(parsed('--what', 'encode,speed'))
    with pytest.raises(ValueError, match='rounds=0'): B.bench('static', rounds=0)
    with pytest.raises(ValueError, match='--threads -1'): B.run_bench(parsed('--threads', -1))
    with pytest.raises(FileNotFoundError, match='no folder'): B.run_bench(parsed('--json', tmp_path/'none/x.json'))
    (tmp_path/'empty.txt').write_text('\n \n')
    with pytest.raises(ValueError, match='holds no text'): B.run_bench(parsed('--texts', tmp_path/'empty.txt'))
    with pytest.raises(ValueError, match='nothing to draw'): B.draw_bench(dict(results={}))


def test_own_texts_and_their_share():
    assert P.pick(['a', 'aaa', 'aa', 'aaaa'], 2)==['aa', 'aaaa'] and len(P.pick(['a'], 5))==1
    long = P.long_texts(['one two three', 'four five'], 3, np.random.default_rng(0), words=20)
    assert len(long)==3 and all(14 <= len(t.split()) <= 22 for t in long)


def test_peers_do_the_same_work(tmp_path):
    "sentence-transformers reads the tokens we count, and both graphs in ONNX Runtime give its vectors."
    for name in ('sentence_transformers', 'transformers', 'onnx', 'onnxruntime'): pytest.importorskip(name)
    lab = P.Lab(tmp_path, quick=True); texts = lab.corpora['short'][:8]
    model = P.sentence_transformer(lab); want = P.st_run(lab, texts)()
    assert [len(i) for i in model.tokenizer(texts)['input_ids']]==[len(r) for r in lab.wordpiece.encode(texts)]
    assert sum(p.numel() for n,p in model.named_parameters() if p.dim()==2 and 'encoder' in n)==P.BERT_MATRICES
    for fused in (False, True): np.testing.assert_allclose(P.onnx_encoder(lab, P.onnx_graph(lab, False, fused))(texts), want, atol=1e-4)
    assert (P.onnx_encoder(lab, P.onnx_graph(lab, True, False))(texts)*want).sum(1).min() > .95
