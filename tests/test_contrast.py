"Contrast triplets: what the rules make of a sentence, exactly; what a bag of words can and cannot score on them."
import json, zlib

import numpy as np
import pytest
from conftest import cli

from text_embedding.contrast import contrast_sentences, contrast_triplets, evaluate_contrast, format_contrast, swap_colors, swap_roles
from text_embedding.evaluation import format_slices, slices
from text_embedding.similarity import bag_of_words, words

WHO,WHOM = ['A dog','The old man','A small cat','A young woman','A girl in a red hat'],['a bird','the horse','a nurse','a green ball','the tall player']
CAPTIONS = ([f'{a} is {v} {b}.' for a in WHO for b in WHOM for v in ('chasing','pushing')]
            + [f'A {x} in a {c} hat sits beside a {d} car.' for x in ('man','woman') for c,d in (('red','blue'), ('green','white'), ('black','pink'))]
            + [f'{n} {what} near the river.' for n in ('Two','Three','Four') for what in ('boys swim','red boats lie','women sing')])


def rows(t, kind=None): return [r for r in zip(t['anchor'], t['same'], t['different'], t['kind']) if kind in (None, r[3])]


def word_pairs(texts, width=2**14):
    "Counts of neighbouring words, hashed: the least that knows of order."
    x = np.zeros((len(texts), width))
    for row,t in zip(x, texts):
        for pair in zip(words(t), words(t)[1:]): row[zlib.crc32(' '.join(pair).encode()) % width] += 1
    return x


@pytest.mark.parametrize('text,want', [
    ('a dog is chasing a man in the park', 'a man is chasing a dog in the park'),
    ('the woman in a blue coat feeds a small goat', 'a small goat feeds the woman in a blue coat'),
    ('a boy looks at the camera', 'the camera looks at a boy'),
    ('a man is talking to a woman', None),          # symmetric
    ('a bride is kissing the groom', None),
    ('two dogs chase a cat', None),                 # number would have to agree
    ('a dog chases a cat and a mouse', None),       # the object goes on
    ('a man rides a cart pulled by a horse', None),
    ('a dog is chasing A dog', None)])              # nothing would change
def test_roles(text, want): assert swap_roles(text) == want


@pytest.mark.parametrize('text,want', [
    ('a girl in a red hat holds a blue cup', 'a girl in a blue hat holds a red cup'),
    ('a black and white dog', None), ('a red hat and a red cup', None), ('a red car and a blue car', None),
    ('a player in red against one in blue shorts', None), ('a red hat, a blue cup and a green bag', None),
    ('a black man in a white shirt', None)])
def test_colors(text, want): assert swap_colors(text) == want


@pytest.mark.parametrize('caption,kind,same,different', [
    ('The boy is sleeping.', 'negation', {'The boy is now sleeping.', 'The boy is currently sleeping.'}, {'The boy is not sleeping.'}),
    ('Two birds sit on a wall', 'number', {'2 birds sit on a wall.'}, {'3 birds sit on a wall.'}),
    ('Ten birds sit on a wall.', 'number', {'10 birds sit on a wall.'}, {'9 birds sit on a wall.'}),
    ('We saw three red birds.', 'number', {'We saw 3 red birds.'}, {'We saw 2 red birds.', 'We saw 4 red birds.'})])
def test_one_word_changes(caption, kind, same, different):
    for seed in range(5):
        (_,s,d,k), = rows(contrast_triplets([caption], seed=seed, at_least=0))
        assert k == kind and s in same and d in different


@pytest.mark.parametrize('caption', ['Nobody is sleeping.', 'The boy is not sleeping.', 'The boy is sleeping and the girl is reading.', 'Is the boy sleeping?', 'The film is boring.', 'Two of the birds sing.',
                                     'Both of the two birds sing.', 'Two birds and one cat sit.', 'The two birds sing.', '', '   ', '!!', 'x'])
def test_left_alone(caption): assert not rows(contrast_triplets([caption], at_least=0))


def test_equal_words():
    t = contrast_triplets(CAPTIONS, at_least=5)
    assert {k for *_,k in rows(t)} == {'roles', 'colors', 'negation', 'number'}
    for a,s,d,kind in rows(t):
        assert len({a, s, d}) == 3
        assert (sorted(words(a)) == sorted(words(s)) == sorted(words(d))) == (kind in ('roles', 'colors'))
        if kind in ('negation', 'number'): assert len(words(s)) == len(words(d))


def test_bags_tie_and_order_wins():
    "Any bag gets exactly 50 on roles and colours, even when fp32 sums come in another order; a model that knows order does not."
    t = contrast_triplets(CAPTIONS, at_least=5)
    vector = lambda w: np.random.default_rng(zlib.crc32(w.encode())).normal(size=64).astype(np.float32)
    table = lambda texts: np.stack([sum(vector(w) for w in words(x))/np.float32(len(words(x))) for x in texts])
    for encode in (bag_of_words, table):
        for kind in ('roles', 'colors'):
            r = evaluate_contrast(encode, t)['by_kind'][kind]
            assert r['accuracy'] == r['low'] == r['high'] == 50
    ordered = evaluate_contrast(word_pairs, t)
    assert ordered['by_kind']['roles']['accuracy'] > 90 and ordered['by_kind']['colors']['accuracy'] > 90
    assert ordered['by_kind']['roles']['low'] > 50 and 'roles' in format_contrast(ordered)


def test_points():
    "Right 1, tie 1/2, wrong 0; the mean is over kinds, not over triplets."
    at = dict(a=[1, 0], near=[1, .1], far=[1, 1])
    encode = lambda texts: np.array([at[t] for t in texts], dtype=np.float32)
    t = dict(anchor=['a']*4, same=['near', 'near', 'far', 'near'], different=['far', 'near', 'near', 'far'], kind=['x', 'x', 'x', 'y'])
    r = evaluate_contrast(encode, t, n_boot=50)
    assert r['by_kind']['x']['accuracy'] == 50 and r['by_kind']['y']['accuracy'] == 100 and r['accuracy'] == 75 and r['n'] == 4
    assert r == evaluate_contrast(encode, t, n_boot=50)
    with pytest.raises(ValueError, match='4 anchors, 3 same'): evaluate_contrast(encode, t | dict(same=t['same'][:3]))
    with pytest.raises(ValueError, match='NaN'): evaluate_contrast(lambda x: np.full((len(x), 2), np.nan), t)


def test_same_seed_same_triplets():
    a,b,c = (contrast_triplets(CAPTIONS, n_per_kind=5, seed=s, at_least=5) for s in (0, 0, 1))
    assert a == b != c and len(rows(a, 'roles')) == 5


def test_too_few():
    with pytest.raises(ValueError, match=r"12 sentences.*'colors': 0.*at_least=20.*give more"): contrast_triplets([f'Three cats see {n} trees' for n in range(12)])
    assert contrast_triplets([], at_least=0) == dict(anchor=[], same=[], different=[], kind=[])


def test_slices():
    rng = np.random.default_rng(0)
    first = [' '.join(['word']*n) for n in rng.integers(1, 30, 90)]
    second,gold = [f'{a} too' for a in first],rng.random(90)
    r = slices(gold, (first, second, gold), n_boot=20)
    for parts in r.values(): assert sum(p['n'] for p in parts.values()) == 90 and all(p['spearman'] == pytest.approx(100) for p in parts.values())
    assert len(r['length']) == 3 and format_slices(r).count('\n') == sum(map(len, r.values()))-1
    with pytest.raises(ValueError, match='89'): slices(gold[1:], (first, second, gold))


def mirror(root):
    "A data root in hub layout with our captions, split as the real one; no Flickr30k, as on the hub."
    import pandas as pd
    d = root/'sentence-transformers/all-nli'; (d/'pair-class').mkdir(parents=True)
    for i,split in enumerate(('dev', 'test')): pd.DataFrame(dict(premise=CAPTIONS[:1]*len(CAPTIONS[i::2]), hypothesis=CAPTIONS[i::2], label=0)).to_parquet(d/f'pair-class/{split}-00000-of-00001.parquet')
    f = root/'sentence-transformers/flickr30k-captions/data'; f.mkdir(parents=True)
    pd.DataFrame(dict(caption1=['Seen in training.'], caption2=['Seen in training.'])).to_parquet(f/'train-00000-of-00001.parquet')
    (d/'README.md').write_text("---\nconfigs:\n- config_name: pair-class\n  data_files:\n  - split: dev\n    path: pair-class/dev-*\n  - split: test\n    path: pair-class/test-*\n---\n")
    return root


def test_command(trained, tmp_path):
    "`evaluate --task contrast` says what is missing, or prints a line per kind and JSON; training captions are not read."
    root = mirror(tmp_path)
    assert sorted(contrast_sentences(root)) == sorted(CAPTIONS)
    r = cli('evaluate', '--model', trained, '--task', 'contrast', '--data-root', root, ok=False)
    assert r.returncode == 2 and 'at_least=20' in r.stderr and r.stderr.count('\n') == 1
    import text_embedding.contrast as e
    original = e.contrast_triplets
    try:
        e.contrast_triplets = lambda s: original(s, at_least=5)
        assert [l.split()[0] for l in cli('evaluate', '--model', trained, '--task', 'contrast', '--data-root', root).stdout.splitlines()] == ['roles', 'colors', 'negation', 'number', 'mean']
        j = json.loads(cli('evaluate', '--model', trained, '--task', 'contrast', '--data-root', root, '--json').stdout)
        assert set(j['by_kind']) == {'roles', 'colors', 'negation', 'number'} and 0 <= j['low'] <= j['accuracy'] <= j['high'] <= 100
    finally: e.contrast_triplets = original


def test_training_leaves_the_test_out(tmp_path):
    "No sentence that the test may draw from becomes a training triplet, whatever phrase the rule would add to it."
    from text_embedding.recipe import TrainConfig
    from text_embedding.gather import contrast_pairs
    new = ['A nurse is pushing the tall player.', 'A green bird follows a white horse.']
    made = contrast_pairs(dict(coco=dict(anchor=CAPTIONS+new, positive=CAPTIONS[::-1]+new)), TrainConfig(data_root=str(mirror(tmp_path))))
    assert len(made) and all(any(set(words(n)) & set(words(a)) == set(words(n)) for n in new) for a in made['anchor']), made['anchor']
