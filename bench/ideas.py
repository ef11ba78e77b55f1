"""Ideas for the static model and for `tiny`, one a run: the rows of LOG.md of 2026-11-22 ("what was tried").

    .venv/bin/python bench/ideas.py DATA_ROOT OUT IDEA [SEED]

Every idea starts from the same tokenised pairs (cached in OUT) and changes one thing. Prints dev by genre along the way, and test at the end; dev chooses.
A plain loop, apart from the package's own, so that an idea can reach into every part of it."""
import hashlib, pickle, sys, time, zlib
from itertools import combinations
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from datasets import Dataset, load_dataset

from text_embedding.data import MIX, REGISTRY, eval_sentences, load_and_count, load_stsb, normalized, replace, text_keys
from text_embedding.batches import PairStream, TokenizedPairs, read_tokenized, tokenize_pairs
from text_embedding.contrast import contrast_sentences, contrast_triplets, evaluate_contrast
from text_embedding.evaluation import evaluate_scores
from text_embedding.losses import info_nce
from text_embedding.model import TextEmbeddingModel
from text_embedding.presets import tiny
from text_embedding.pooling import repeat_weights
from text_embedding.tokenizer import Tokenizer
from text_embedding.recipe import TrainConfig
from text_embedding.gather import load_source_pairs

DATA,OUT = sys.argv[1],Path(sys.argv[2])
LEAKS = eval_sentences(DATA)

# ---- data

def pairs_of(name:str) -> dict:
    "Columns of one source without leaks; `views` are plain sentences paired with themselves, `flickr_all` all ten pairs of five captions."
    if name=='views':
        s = [t for n in ('wikipedia_articles', 'wikipedia_sentences', 'news_headlines', 'tatoeba', 'quora') for c in ('anchor', 'positive') for t in pairs_of(n)[c]]
        s = list(dict.fromkeys(s)); s = [s[i] for i in np.random.default_rng(0).permutation(len(s))[:200_000]]
        return dict(anchor=s, positive=s, key=text_keys(s), positive_key=text_keys(s))
    if name=='flickr_all':
        a,b,k = [],[],[]
        for i,captions in enumerate(load_dataset(f'{DATA}/sentence-transformers/flickr30k-captions', 'captions', split='train')['captions'][:]):
            for x,y in combinations(dict.fromkeys(' '.join(c.split()) for c in captions if normalized(c) not in LEAKS), 2): a.append(x); b.append(y); k.append(i)
        return dict(anchor=a, positive=b, key=k, positive_key=k)
    if name=='contrast':
        s = [t for n in ('flickr30k', 'coco', 'coco_extra', 'nli_pair') for c in ('anchor', 'positive') for t in pairs_of(n)[c]]
        tested = set(map(normalized, contrast_sentences(DATA)))
        t = contrast_triplets([x for x in s if normalized(x) not in tested], 6000, seed=1)
        a,p,n = t['anchor'],t['same'],t['different']
        return dict(anchor=a, positive=p, negative=n, key=text_keys(a), positive_key=text_keys(p))
    ds,_ = load_source_pairs(name, TrainConfig(data_root=DATA).resolve(), LEAKS)
    return {c: ds[c][:] for c in ds.column_names}

def tokenizer(names, vocab:int=16000, lowercase:bool=True) -> Tokenizer:
    path = OUT/f'tok-{vocab}-{lowercase}-{hashlib.md5(repr(tuple(names)).encode()).hexdigest()[:8]}.json'
    if not path.exists():
        per = 150_000//len(names)
        Tokenizer.train((t for n in names for p in [pairs_of(n)] for c in ('anchor', 'positive') for t in p[c][:per]), vocab_size=vocab, lowercase=lowercase).save(path)
    return Tokenizer.load(path)

def tokenized(tok, names, negatives:bool) -> dict:
    out = {}
    for n in names:
        note = OUT/f'{tok.fingerprint()[:12]}-{n}-{negatives}.path'
        if not note.exists():
            p = pairs_of(n)
            if not negatives: p.pop('negative', None)
            note.write_text(str(tokenize_pairs(Dataset.from_dict(p), tok, 64, OUT).path))
        out[n] = read_tokenized(note.read_text())
    return out

# ---- judges

class Judge:
    def __init__(self, tok):
        self.data = {s: load_stsb(s, DATA) for s in ('dev', 'test')}
        self.ids = {s: [tok(d[c], max_length=128) for c in ('sentence1', 'sentence2')] for s,d in self.data.items()}
    def __call__(self, embed, split='dev'):
        with torch.no_grad(): a,b = (embed(*x) for x in self.ids[split])
        d = self.data[split]; r = evaluate_scores((a*b).sum(-1).numpy(), d['score'], d['genre'], n_boot=0)
        return round(r['spearman'], 2),{g: round(v, 1) for g,v in r['by_genre'].items()}

def bag(table, ids, mask, log=True):
    w = repeat_weights(ids, mask) if log else mask.float()
    return F.normalize(F.embedding_bag(ids, table, mode='sum', per_sample_weights=w/w.sum(1, keepdim=True).clamp(min=1e-6)), dim=-1)

# ---- parts of ideas

def char_ngrams(tok, low=3, high=5, buckets=20_000):
    "Hashed character n-grams of each token of the vocabulary: flat ids and offsets."
    names = [None]*tok.vocab_size
    for s,i in tok.backend.get_vocab().items(): names[i] = s.replace('Ġ', '<')
    grams = [sorted({zlib.crc32(s[i:i+n].encode())%buckets for n in range(low, high+1) for i in range(len(s)-n+1) if len(s)>n}) for s in names]
    return torch.tensor(sum(grams, [])),torch.tensor([0, *np.cumsum([len(g) for g in grams])])

def ppmi_table(tok, dim=256, window=3, texts=()):
    "Directions of tokens from who stands beside whom: truncated SVD of positive PMI with smoothed contexts (alpha .75), harmonic window."
    import scipy.sparse as sp
    from sklearn.utils.extmath import randomized_svd
    rows = tok.encode(list(texts), max_length=512)
    ids,doc,m = np.concatenate([np.asarray(r, np.int64) for r in rows]),np.repeat(np.arange(len(rows)), [len(r) for r in rows]),0
    v = tok.vocab_size
    for d in range(1, window+1):
        ok = doc[d:]==doc[:-d]; u,c = np.unique(ids[:-d][ok]*v+ids[d:][ok], return_counts=True)
        m = m + sp.csr_matrix((c/d, (u//v, u%v)), shape=(v, v))
    m = (m+m.T).tocoo(); r = np.asarray(m.sum(1)).ravel()+1e-9; c = r**.75/(r**.75).sum()
    x = np.log(m.data/(r[m.row]*c[m.col])); k = x>0
    u,s,_ = randomized_svd(sp.csr_matrix((x[k], (m.row[k], m.col[k])), shape=m.shape), dim, n_iter=3, random_state=0)
    return F.normalize(torch.tensor(u*s**.5).float(), dim=1)

def drop_tokens(mask, p):
    keep = mask & (torch.rand(mask.shape) >= p); empty = ~keep.any(1); keep[empty] = mask[empty]; return keep

# ---- the two loops

def static(name, mix=MIX, seed=0, steps=1000, batch=1024, lr=2e-2, temp=.06, negatives=True, dim=256, vocab=16000, lowercase=True, jitter=None, log=True, init=None, drop=0.,
           view_drop=.5, split=False, clip=1., decay=0., grams=False, half=None):
    torch.manual_seed(seed); tok = tokenizer(MIX, vocab, lowercase); judge = Judge(tok)
    source = {n: p if half is None else halves(p)[half] for n,p in tokenized(tok, mix, negatives).items()}
    stream = PairStream(source, mix, batch_size=batch, seed=seed, pad_id=tok.pad_id, jitter=jitter)
    table = torch.nn.Parameter(init(tok) if init else torch.randn(tok.vocab_size, dim)/dim**.5); params = [table]
    if grams: flat,off = char_ngrams(tok); extra = torch.nn.Parameter(torch.zeros(20_000, dim)); params.append(extra)
    def whole(): return table + F.embedding_bag(flat, extra, off[:-1], mode='sum')/(off[1:]-off[:-1]).clamp(min=1).sqrt()[:, None] if grams else table
    opt = torch.optim.AdamW(params, lr=lr, betas=(.9, .98), weight_decay=decay, fused=True); start,warm = time.time(),.05*steps
    for s in range(steps):
        opt.param_groups[0]['lr'] = lr*((s+1)/warm if s<warm else 1-(s-warm)/(steps-warm))
        b,t = stream.batch(s),whole(); (ai, am),(pi, pm) = b.anchor,b.positive
        if b.source=='views':
            if split: half = torch.rand(am.shape)<.5; am,pm = am&half,am&~half
            else: am,pm = drop_tokens(am, view_drop),drop_tokens(pm, view_drop)
        elif drop: am,pm = drop_tokens(am, drop),drop_tokens(pm, drop)
        loss = info_nce(bag(t, ai, am, log), bag(t, pi, pm, log), bag(t, *b.negative, log) if b.negative is not None else None, temp, .5, b.anchor_keys, b.positive_keys)
        opt.zero_grad(); loss.backward()
        if clip: torch.nn.utils.clip_grad_norm_(params, clip)
        opt.step()
        if (s+1)%(steps//4)==0: print(f'  step {s+1}', *judge(lambda i,m: bag(whole(), i, m, log)), flush=True)
    embed = lambda i,m: bag(whole(), i, m, log)
    print(f'{name} seed {seed}: dev', *judge(embed), 'test', *judge(embed, 'test'), f'{time.time()-start:.0f} s', flush=True)
    torch.save(whole().detach(), OUT/f'static-{name}-{seed}.pt'); return tok,whole().detach()

NEW = dict(coco_extra=2, flickr_all=3, coco=1, nli=3, nli_pair=.5, quora=2, qqp=.2, tatoeba=.7, parasci=.5, wikipedia_articles=.7, wikipedia_sentences=.5, clotho=.3, audiocaps=.3, altlex=.5, wiki_nli=.5,
           fever_nli=.3, mrpc=.2, negation_nli=.5)
ORDER = dict(flickr30k=2, nli=2, quora=2, coco=1, coco_extra=.5, wikipedia_sentences=1, altlex=1, wiki_nli=.5, tatoeba=.5, qqp=.2, fever_nli=.3, mrpc=.2, negation_nli=.5, contrast=10.)

def transformer(name, mix, seed=0, steps=300, batch=256, lr=2e-3, table_lr=None, close=0., scratch=False, half=None, layers=2, ratio=.5):
    "`tiny` on the table of idea `base` (of its even or odd half of the pairs: half=0 or 1), or joint from random weights (scratch)."
    tok = tokenizer(MIX); judge,source = Judge(tok),tokenized(tok, mix, True); torch.manual_seed(seed)
    table = torch.randn(tok.vocab_size, 256)/16 if scratch else torch.load(OUT/('static-half-0.pt' if half is not None else f'static-base-{seed}.pt'))
    if half is not None: source = {n: halves(p)[half] for n,p in source.items()}
    model = TextEmbeddingModel(tiny(vocab_size=tok.vocab_size, pad_id=tok.pad_id, dropout=0., num_layers=layers, mlp_ratio=ratio)); model.train()
    with torch.no_grad():
        model.token_embedding.weight.copy_(table)
        for b in model.blocks: b.attn.o_proj.weight.zero_(); b.ffn.down_proj.weight.zero_()
    layer = [p for n,p in model.named_parameters() if 'embedding' not in n]
    groups = [dict(params=[p for p in layer if p.ndim>1], lr=lr, weight_decay=.01),dict(params=[p for p in layer if p.ndim<2], lr=lr, weight_decay=0.)]
    if table_lr: groups.append(dict(params=[model.token_embedding.weight], lr=table_lr, weight_decay=0.))
    else: model.token_embedding.weight.requires_grad_(False)
    opt = torch.optim.AdamW(groups, betas=(.9, .98), fused=True); peak,start,warm = [g['lr'] for g in groups],time.time(),.05*steps
    stream = PairStream(source, mix, batch_size=batch, seed=seed+100, pad_id=tok.pad_id)
    for s in range(steps):
        for g,l in zip(opt.param_groups, peak): g['lr'] = l*((s+1)/warm if s<warm else 1-(s-warm)/(steps-warm))
        b = stream.batch(s); a,p = model(*b.anchor),model(*b.positive); n = model(*b.negative) if b.negative is not None else None
        loss = info_nce(a, p, n, .05, .5, b.anchor_keys, b.positive_keys)
        if close and b.source != 'contrast': loss = loss + close*torch.cat([1-(x*bag(table, *part)).sum(-1) for x,part in ((a, b.anchor), (p, b.positive))]).mean()
        opt.zero_grad(); loss.backward(); torch.nn.utils.clip_grad_norm_(model.parameters(), 1.); opt.step()
        if (s+1)%max(1, steps//3)==0: print(f'  step {s+1}', *judge(model), flush=True)
    model.eval()
    def encode(texts):
        with torch.no_grad(): return torch.cat([model(*tok(texts[i:i+256], max_length=64)) for i in range(0, len(texts), 256)])
    c = evaluate_contrast(encode, contrast_triplets(contrast_sentences(DATA)), n_boot=10)
    print(f'{name} seed {seed}: dev', *judge(model), 'test', *judge(model, 'test'), f'{time.time()-start:.0f} s, contrast', {k: round(v['accuracy'], 1) for k,v in c['by_kind'].items()}, flush=True)

def halves(p:TokenizedPairs) -> tuple:
    "Two halves of a source, pairs of one key on one side."
    side = (p.keys.astype(np.uint64)*np.uint64(0x9E3779B97F4A7C15) >> np.uint64(63)).astype(bool)
    return tuple(p.take(np.flatnonzero(side==h)) for h in (False, True))

MORE = MIX | dict(coco_extra=1, tatoeba=.5, wikipedia_articles=1.5, news_headlines=.5, parasci=.3, audiocaps=.3, clotho=.3, qqp=.1, nli_pair=1, nli_extra_pair=.3, negation_nli=.2)
plain = dict(negatives=False, log=False)   # the state of the recipe when most ideas were tried
IDEAS = dict(
    base=static, count=lambda n,**k: static(n, log=False, **k), plain=lambda n,**k: static(n, **plain, **k), sorted=lambda n,**k: static(n, jitter=.1, **plain, **k),
    more=lambda n,**k: static(n, MORE, jitter=.1, **plain, **k), drop15=lambda n,**k: static(n, drop=.15, **plain, **k), drop30=lambda n,**k: static(n, drop=.3, **plain, **k),
    views=lambda n,**k: static(n, MIX|dict(views=2), **plain, **k), halves_of_a_sentence=lambda n,**k: static(n, MIX|dict(views=2), split=True, **plain, **k),
    batch2048=lambda n,**k: static(n, batch=2048, steps=500, **plain, **k), no_clip=lambda n,**k: static(n, clip=0, **plain, **k), lr05=lambda n,**k: static(n, lr=.05, **plain, **k),
    ten_pairs=lambda n,**k: static(n, {**{s: w for s,w in MIX.items() if s!='flickr30k'}, 'flickr_all': 5}, **plain, **k), char_grams=lambda n,**k: static(n, grams=True, **plain, **k),
    ppmi=lambda n,**k: static(n, init=lambda tok: ppmi_table(tok, texts=[t for s in ('wikipedia_articles', 'wikipedia_sentences', 'flickr30k', 'coco', 'quora', 'altlex') for c in ('anchor', 'positive') for t in pairs_of(s)[c]]), **plain, **k),
    half=lambda n,**k: static(n, half=0, temp=.05, jitter=.1, log=False, **k), unseen=lambda n,**k: transformer(n, MIX, half=1, layers=1, ratio=1., **k),
    captions=lambda n,**k: static(n, MIX|dict(coco_extra=1, nli_pair=1, nli_extra_pair=.3, negation_nli=.2, audiocaps=.2), **k),
    joint=lambda n,**k: transformer(n, MIX, steps=600, batch=512, lr=1e-3, table_lr=2e-2, scratch=True, layers=1, ratio=1., **k),
    free=lambda n,**k: transformer(n, NEW|dict(contrast=1.), **k), close3=lambda n,**k: transformer(n, NEW|dict(contrast=1.), close=3., lr=1e-3, layers=1, ratio=1., **k),
    order_one_block=lambda n,**k: transformer(n, dict(contrast=4, nli=1, flickr_all=1, quora=1), close=1., steps=120, layers=1, ratio=1., **k),
    order_two_blocks=lambda n,**k: transformer(n, dict(contrast=4, nli=1, flickr_all=1, quora=1), close=1., steps=120, **k),
    close2=lambda n,**k: transformer(n, NEW|dict(contrast=3.), close=2., **k), table=lambda n,**k: transformer(n, NEW|dict(contrast=3.), close=.5, table_lr=2e-3, **k),
    close10=lambda n,**k: transformer(n, ORDER, close=10., **k), close30=lambda n,**k: transformer(n, ORDER, close=30., lr=3e-3, **k),
)

if __name__=='__main__':
    torch.set_num_threads(1); OUT.mkdir(parents=True, exist_ok=True)
    IDEAS[sys.argv[3]](sys.argv[3], seed=int(sys.argv[4]) if len(sys.argv)>4 else 0)
