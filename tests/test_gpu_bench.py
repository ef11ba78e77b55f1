"The scripts that measure speed on a GPU, on a CPU: their parts, and that the page says what was predicted."
import json, re, sys

import numpy as np
import pytest
import torch

from conftest import ROOT

GPU = ROOT/'bench'/'gpu'


@pytest.fixture(scope='module')
def bench():
    "The scripts as modules."
    sys.path.insert(0, str(GPU))
    try:
        import encode_speed, report_speed, speed_common, train_speed
        yield {'common': speed_common, 'encode': encode_speed, 'train': train_speed, 'report': report_speed}
    finally: sys.path.remove(str(GPU))


def test_lengths_come_as_counted(bench):
    common = bench['common']
    known = json.loads((GPU/'lengths.json').read_text())
    for kind,low,high in (('short', 10, 20), ('long', 300, 450), ('pairs', 15, 25)): assert low < common.lengths(kind, 5000).mean() < high
    assert set(known) == {'packages', 'short', 'long', 'pairs'} and common.lengths('long', 100).max() <= 512
    assert (common.lengths('short', 50)==common.lengths('short', 50)).all()
    ids = common.draw_ids(10_000, 2000)
    assert 1 <= ids.min() and ids.max() < 2000 and (ids < 45).mean() > .4                # few ids make half of a text


def test_bert_has_as_many_numbers_in_its_matrices(bench):
    from text_embedding.recipe import matmul_parameters
    c = bench['common'].config(False)
    b = pytest.importorskip('transformers') and bench['common'].bert_config(c)
    assert b.num_hidden_layers*(4*b.hidden_size**2 + 2*b.hidden_size*b.intermediate_size) == matmul_parameters(c)


def test_batches_hold_every_text_once_and_all_ways_agree(bench):
    from text_embedding.model import TextEmbeddingModel
    from text_embedding.packing import embed_packed, pack_rows
    from text_embedding.tokenizer import pad_rows
    e,c = bench['encode'],bench['common'].config(True)
    n = np.array([3, 9, 1, 20, 5, 5, 12, 8])
    rows = [x.tolist() for x in np.split(bench['common'].draw_ids(int(n.sum()), c.vocab_size), n.cumsum()[:-1])]
    orders = e.in_order(n, 16)
    assert np.concatenate(orders).tolist()==list(range(len(n)))
    batches,texts = e.bucketed(rows, [8, 16, 24], 32, torch.device('cpu'))
    assert sorted(np.concatenate(texts).tolist())==list(range(len(n))) and {b[0].shape[1] for b in batches} <= {8, 16, 24}
    model = TextEmbeddingModel(c).eval()
    with torch.no_grad():
        want = model(*pad_rows(rows))
        torch.testing.assert_close(embed_packed(model, pack_rows(rows, 4)), want, atol=1e-5, rtol=0)
        for b,i in zip(batches, texts): torch.testing.assert_close(e.plain(model, b)[:len(i)], want[i], atol=1e-5, rtol=0)


def test_rounds_alternate_and_a_broken_contender_does_not_stop_the_others(bench):
    seen = []
    def fine(): seen.append('a')
    def broken(): raise ValueError('no such kernel')
    took = bench['common'].alternate(dict(a=fine, b=broken, c=lambda: seen.append('c')), torch.device('cpu'), 3)
    assert took['b']=='ValueError: no such kernel' and took['a'] >= 0
    assert ''.join(seen) in ('accaacca', 'caaccaac')


def test_t4_limits_expand_the_keys_and_leave_nothing_behind(bench):
    from text_embedding import attention, optim
    before = attention.grouped_kernel_is_fast,optim.fast_dtype
    with bench['common'].t4_limits(True, torch.device('cpu')):
        assert attention.grouped_kernel_is_fast(torch.zeros(1, 8, 2, 4), None) is False and optim.fast_dtype(torch.device('cuda')) is torch.float16
    assert (attention.grouped_kernel_is_fast, optim.fast_dtype)==before


def test_pairs_train_one_step(bench, tmp_path):
    t = bench['train']
    a = bench['common'].arguments('x', ['--device', 'cpu', '--rehearse', '--out', str(tmp_path)])
    job = t.Ours(a, 'fp32', 'adamw', True, 8)
    job.run(1)
    assert job.step==1 and job.tokens > 0


def test_report_without_and_with_results(bench, tmp_path, capsys):
    r = bench['report']
    r.main(tmp_path)
    assert capsys.readouterr().out.count('not measured')==len(r.NAMES)
    row = dict(texts_per_s=100000., tflops=50., share_of_peak=.1, share_of_datasheet=None, far_from_fp32=1e-6, ratio=1.)
    result = dict(device='NVIDIA H100', torch='2', date='2026-01-01', t4=False, rehearsal=False, peak_tflops=dict(fp16=700.), compile_seconds=9., break_even_texts=None,
                  prepare_us_per_text={}, rows={'padded, fp16': row, 'BERT, padded, fp16': dict(error='not installed')})
    (tmp_path/'encode_short.json').write_text(json.dumps(result))
    r.main(tmp_path)
    out = capsys.readouterr().out
    known = json.loads((GPU/'predictions.json').read_text())['H100']['encode_short']
    assert f'| padded, fp16 | {known["padded"]:,} | 100,000 |' in out and 'not installed' in out
    tables = [l for l in out.splitlines() if l.startswith('|')]
    assert len({l.count('|') for l in tables})==1


def test_the_page_gives_the_predictions_that_were_written_first():
    page,known = (GPU/'README.md').read_text(),json.loads((GPU/'predictions.json').read_text())
    for machine in ('H100', 'T4'):
        for kind,per in (('encode_short', 'packed, sorted'), ('encode_long', 'packed, sorted'), ('train', 'AdamW, packed')):
            said = f'{known[machine][kind][per]:,}'
            assert re.search(rf'(?<![\d,]){said}(?![\d,])', page), f'{machine} {kind}, {per}: predictions.json says {said}, the page does not'
