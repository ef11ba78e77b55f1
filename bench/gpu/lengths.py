"""Count the tokens of docstrings, once, where they are installed: `bench/gpu/lengths.py` writes lengths.json beside itself (numbers only, no text).
short: first sentences. long: whole docstrings of at least 200 tokens, cut at 512. pairs: first sentence and next sentence, at most 64 tokens each.
Counted with the tokenizer of the shipped model (16 000 pieces); one of 30 000 makes a few per cent fewer."""
import json
from collections import Counter
from pathlib import Path

import numpy as np

from text_embedding.docstrings import clean_docstring, docstring_pairs, docstrings
from text_embedding.data import split_sentences
from text_embedding.inference import shipped_model
from text_embedding.tokenizer import Tokenizer

PACKAGES = ('torch', 'numpy', 'scipy', 'matplotlib', 'pandas', 'sklearn', 'stdlib')

def main():
    tokenizer = Tokenizer.load(shipped_model()/'tokenizer.json')
    count = lambda texts, most: [len(ids) for ids in tokenizer.encode(texts, max_length=most)]
    data = docstring_pairs(PACKAGES)
    anchors,nexts = list(data['anchor']),[split_sentences(x)[0] for x in data['positive']]
    short,after = count(anchors, 128),count(nexts, 128)
    whole = [' '.join(clean_docstring(doc)) for p in PACKAGES for _,doc in docstrings(p) if len(doc) > 800]
    long = [n for n in count(whole, 512) if n >= 200]
    pairs = [p for p in zip(short, after) if max(p) <= 64]
    pairs = [pairs[i] for i in np.random.default_rng(0).permutation(len(pairs))[:2000]]
    histogram = lambda x: {str(k): n for k,n in sorted(Counter(x).items())}
    result = dict(packages=PACKAGES, short=histogram(short), long=histogram(long), pairs=[[int(a), int(p)] for a,p in pairs])
    Path(__file__).with_name('lengths.json').write_text(json.dumps(result, separators=(',', ':'))+'\n')
    for name,x in (('short', short), ('long', long), ('pairs, both sides', [n for p in pairs for n in p])): print(f'{name}: {len(x):,} texts of {np.mean(x):.1f} tokens')

if __name__=='__main__': main()
