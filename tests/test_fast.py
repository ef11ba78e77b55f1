"A fast path returns the vectors of the slow one: every design, every precision, in any company; and it says what it cannot do."
import numpy as np
import pytest
import torch

from text_embedding import fast, inference
from text_embedding.attention import sdpa
from text_embedding.docstrings import docstring_pairs
from text_embedding.fast import SHORT, FastModel, attend_short, cpu_has_int8, fast_linear, int8_linear, pairs_together
from text_embedding.recipe import cpu_has_bf16
from text_embedding.inference import Embedder, load_model
from text_embedding.presets import PRESETS, ada_small, baseline, encoder, tiny
from text_embedding.model import TextEmbeddingModel
from text_embedding.packing import embed_packed, pack_rows
from text_embedding.similarity import spearman
from text_embedding.tokenizer import Tokenizer, pad_rows

INT8 = pytest.param('int8', marks=pytest.mark.skipif(not cpu_has_int8(), reason='needs an x86 CPU with AVX2'))
PRECISIONS = ['fp32', 'bf16', INT8]
COSINE = dict(fp32=.9999, bf16=.9995, int8=.99)
LENGTHS = [5, 1, 9, 9, 0, 30, 5, 2, SHORT, SHORT+1, 64, 60, 7, 7, 7]
DESIGNS = PRESETS | dict(
    yarn=lambda **kw: encoder(yarn_factor=4.0, **kw),
    swiglu_biases=lambda **kw: encoder(ffn='swiglu', attn_bias=True, **kw),
    cls=lambda **kw: encoder(pooling='cls', **kw),
    no_biases=lambda **kw: encoder(ffn_bias=False, **kw),
    full_heads=lambda **kw: encoder(num_kv_heads=None, **kw),
    causal_rope=lambda **kw: encoder(causal=True, pooling='eos', **kw),
    post_norm_rope=lambda **kw: baseline(position='rope', **kw),
    log_repeats=lambda **kw: encoder(repeats='log', **kw))


@pytest.fixture(autouse=True)
def quiet():
    torch.manual_seed(0)
    with torch.no_grad(): yield


def rows(lengths=LENGTHS, vocab=50, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.integers(1, vocab, n).tolist() for n in lengths]


def small(name, **changes):
    "A small model of that design; gains, biases and all are shaken."
    kw = dict(vocab_size=50, max_seq_len=64, embd_dim=32) | ({} if name=='static' else dict(num_layers=2, num_heads=4)) | changes
    model = TextEmbeddingModel(DESIGNS[name](**kw)).eval()
    for p in model.parameters(): p.add_(.1*torch.randn_like(p))
    return model


def close(precision, got, want):
    "Cosine with the judge, and values where nothing is rounded."
    real = want.norm(dim=1) > 0
    assert got.shape==want.shape and got.dtype==torch.float32
    assert torch.all(got[~real]==0)
    assert (got*want).sum(1)[real].min() >= COSINE[precision]
    if precision=='fp32': torch.testing.assert_close(got, want, rtol=0, atol=1e-4)


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('name', DESIGNS)
def test_every_design(name, precision):
    model,packed = small(name),pack_rows(rows())
    close(precision, FastModel(model, precision)(packed), embed_packed(model, packed))


@pytest.mark.parametrize('precision', PRECISIONS)
def test_medium_encoder(precision):
    "Width 128 and texts on both sides of SHORT, against the padded model too."
    model = TextEmbeddingModel(encoder(vocab_size=500, embd_dim=128, num_layers=2, num_heads=8, max_seq_len=256)).eval()
    for p in model.blocks.parameters():
        if p.ndim==2: p.mul_(3)
    texts = rows([3, 200, 17, SHORT, SHORT+1, 100, 17, 256], vocab=500)
    got = FastModel(model, precision)(pack_rows(texts))
    close(precision, got, embed_packed(model, pack_rows(texts)))
    close(precision, got, model(*pad_rows(texts, 0)))


@pytest.mark.parametrize('precision', ['fp32', INT8])
@pytest.mark.parametrize('name', ['encoder', 'ada', 'baseline', 'yarn'])
def test_a_text_has_one_vector(name, precision):
    "Alone, beside others, in another order, beside itself."
    model,texts = small(name),[r for r in rows() if r]
    f = FastModel(model, precision)
    together = f(pack_rows(texts))
    alone = torch.cat([f(pack_rows([r])) for r in texts])
    order = np.random.default_rng(1).permutation(len(texts))
    shuffled = torch.empty_like(together); shuffled[order] = f(pack_rows([texts[i] for i in order]))
    for other in (alone, shuffled): assert (other-together).abs().max() < 1e-6
    twice = f(pack_rows([texts[0], texts[0]])); assert (twice[0]-twice[1]).abs().max() < 1e-6


@pytest.mark.skipif(not cpu_has_int8(), reason='needs an x86 CPU with AVX2')
def test_int8_takes_a_scale_for_each_token():
    "A token a thousand times louder changes nothing beside it."
    w,x = torch.randn(40, 64),torch.randn(5, 64)
    linear = int8_linear(w, torch.randn(40))
    assert torch.equal(linear(torch.cat((x, 1000*torch.randn(3, 64))))[:5], linear(x))
    assert torch.equal(int8_linear(w, None)(torch.zeros(2, 64)), torch.zeros(2, 40))


@pytest.mark.skipif(not cpu_has_int8(), reason='needs an x86 CPU with AVX2')
@pytest.mark.parametrize('k', [8, 32, 128, 512, 2048])
def test_int8_does_not_saturate(k):
    "The kernel comes within a fifth of exact whole-number arithmetic, also where every number is as large as can be."
    steps = 127 if torch.cpu._is_vnni_supported() else 63
    x,w = torch.randn(64, k),torch.randn(96, k)
    sx,sw = x.abs().amax(1, keepdim=True)/127,w.abs().amax(1)/steps
    ideal,exact = ((x/sx).round().double() @ (w/sw[:, None]).round().double().mT).float()*sx*sw,x @ w.mT
    assert (int8_linear(w, None)(x)-exact).norm() < 1.2*(ideal-exact).norm()
    torch.testing.assert_close(int8_linear(torch.ones(3, k), None)(torch.ones(2, k)), torch.full((2, 3), float(k)), rtol=1e-4, atol=0)


@pytest.mark.parametrize('precision', PRECISIONS)
@pytest.mark.parametrize('bias', [True, False])
def test_linear(precision, bias):
    w,b,x = torch.randn(24, 64)/8,torch.randn(24) if bias else None,torch.randn(7, 64)
    want = torch.nn.functional.linear(x, w, b)
    assert (fast_linear(w, b, precision)(x).float()-want).norm()/want.norm() < dict(fp32=1e-5, bf16=.01, int8=.03)[precision]


@pytest.mark.parametrize('works', [True, False])
def test_both_kernels_agree(monkeypatch, works):
    "With oneDNN chosen and with torch's own layer."
    if works and not torch.backends.mkldnn.is_available(): pytest.skip('this torch has no oneDNN')
    monkeypatch.setattr(fast, 'onednn_is_faster', lambda *_: works)
    model = small('baseline')
    try: got = FastModel(model)(pack_rows(rows()))
    except (RuntimeError, AttributeError) as e: pytest.skip(f'no such kernel: {e}')
    close('fp32', got, embed_packed(model, pack_rows(rows())))


@pytest.mark.parametrize('h,k', [(4, 4), (4, 2), (4, 1)])
@pytest.mark.parametrize('causal', [True, False])
def test_attend_short(h, k, causal):
    q,key,v = (torch.randn(3, n, 9, 8) for n in (h, k, k))
    torch.testing.assert_close(attend_short(q, key, v, None, causal), sdpa(q, key, v, None, causal, scale=1.0), rtol=1e-4, atol=1e-5)


def test_pairs_together_is_a_permutation():
    assert pairs_together(torch.arange(24), 3).sort().values.tolist()==list(range(24))
    assert pairs_together(torch.arange(8), 1).tolist()==[0, 4, 1, 5, 2, 6, 3, 7]


def test_decoder_with_eos():
    "Causal, a learned table, the vector of the last token."
    tok = Tokenizer.train(['one two three', 'four five six seven']*20, vocab_size=300, add_eos=True)
    model = TextEmbeddingModel(ada_small(vocab_size=len(tok), embd_dim=32, num_layers=2, num_heads=4, max_seq_len=64, pad_id=tok.pad_id, eos_id=tok.eos_id))
    for p in model.parameters(): p.add_(.1*torch.randn_like(p))
    texts = ['one', 'two three four five', 'six '*40, 'seven seven']
    want = Embedder(model, tok, device='cpu', precision='plain').encode(texts)
    np.testing.assert_allclose(Embedder(model, tok, device='cpu', precision='fp32').encode(texts), want, atol=1e-5)


@pytest.fixture(scope='module')
def docs(): return docstring_pairs(('numpy',), max_rows=500)


@pytest.fixture(scope='module')
def small_transformer(docs):
    "An embedder around a random `tiny` transformer whose blocks speak up."
    tok = Tokenizer.train(list(docs['anchor']), vocab_size=1000)
    torch.manual_seed(0)
    model = TextEmbeddingModel(tiny(vocab_size=len(tok), pad_id=tok.pad_id))
    with torch.no_grad():
        for p in model.blocks.parameters():
            if p.ndim==2: p.mul_(2)
    return Embedder(model, tok, device='cpu', precision='plain')


@pytest.mark.parametrize('precision', PRECISIONS)
def test_rankings_stay(docs, small_transformer, precision):
    def scores(p):
        a,b = (small_transformer.encode(list(docs[column]), max_length=48, precision=p) for column in ('anchor', 'positive'))
        return (a*b).sum(1)
    want = scores('plain')
    assert want.std() > .05                                             # else there is no ranking to keep
    assert spearman(scores(precision), want) > .999


@pytest.mark.parametrize('precision', PRECISIONS)
def test_shipped_model_agrees(precision):
    texts = ['a text', 'another, longer text about arrays', 'the the the']
    want = load_model(device='cpu', precision='plain').encode(texts)
    np.testing.assert_allclose(load_model(device='cpu', precision=precision).encode(texts), want, atol=1e-5)


def test_precision_of_one_call(small_transformer):
    "Asked for once, it is used once."
    texts = ['some array', 'the shape of an array']
    embedder = Embedder(small_transformer.model, small_transformer.tokenizer, device='cpu', precision='fp32')
    plain = embedder.encode(texts, precision='plain')
    np.testing.assert_array_equal(plain, small_transformer.encode(texts))
    bf16 = embedder.encode(texts, precision='bf16')
    assert 1e-5 < np.abs(bf16-plain).max() < .05 and embedder.precision=='fp32'
    np.testing.assert_allclose(embedder.encode(texts), plain, atol=1e-5)


@pytest.mark.parametrize('precision', PRECISIONS)
def test_changed_weights_are_seen(small_transformer, precision):
    "Fused matrices are copies; `Embedder.engine` makes them anew."
    texts = ['some array', 'the shape of an array']
    embedder = Embedder(small_transformer.model, small_transformer.tokenizer, device='cpu', precision=precision)
    before = embedder.encode(texts)
    weight = embedder.model.blocks[0].attn.v_proj.weight
    old = weight.detach().clone()
    try:
        weight.mul_(-4)
        after = embedder.encode(texts)
        assert np.abs(after-before).max() > .02
        assert (after*embedder.encode(texts, precision='plain')).sum(1).min() > COSINE[precision]
    finally: weight.copy_(old)
    np.testing.assert_allclose(embedder.encode(texts), before, atol=1e-6)


def test_broken_weights_are_an_error(small_transformer):
    "A NaN in a matrix does not turn into a number on the way through 8 bits."
    embedder = Embedder(small_transformer.model, small_transformer.tokenizer, device='cpu')
    weight = embedder.model.blocks[1].ffn.up_proj.weight
    old = weight.detach().clone()
    try:
        weight[3, 4] = float('nan')
        for precision in ['fp32', 'bf16'] + ['int8']*cpu_has_int8():
            with pytest.raises(RuntimeError, match='not finite'): embedder.encode('a text', precision=precision)
    finally: weight.copy_(old)


def test_what_is_refused(monkeypatch, small_transformer):
    model = small('encoder')
    with pytest.raises(ValueError, match="'int4' is unknown"): FastModel(model, 'int4')
    with pytest.raises(ValueError, match='int4.*unknown'): small_transformer.encode('a text', precision='int4')
    with pytest.raises(ValueError, match='65 tokens is longer than the context of 64'): FastModel(model)(pack_rows([[1]*65]))
    monkeypatch.setattr(fast, 'cpu_has_int8', lambda: False); monkeypatch.setattr(inference, 'cpu_has_int8', lambda: False)
    with pytest.raises(ValueError, match="int8.*AVX2.*use 'fp32'"): FastModel(model, 'int8')
    with pytest.raises(ValueError, match='int8.*AVX2'): small_transformer.encode('a text', precision='int8')


def test_nothing_in_nothing_out():
    for name in ('encoder', 'static'):
        f = FastModel(small(name))
        assert f(pack_rows([])).shape[0]==0 and torch.equal(f(pack_rows([[], []])), torch.zeros(2, f.config.embedding_dim))


def test_bf16_is_asked_of_training():
    from text_embedding.recipe import cpu_has_bf16 as asked
    assert cpu_has_bf16 is asked and isinstance(cpu_has_bf16(), bool)
