"Tokenizer: the corners of its interface, its file, its forks."
import copy, multiprocessing, pickle, sys

import pytest
import torch

from text_embedding.tokenizer import Tokenizer

TEXTS = ['The film was a delight from start to finish.', 'readFile parses HTTPResponse, log_softmax and read_csv', 'one two three four five six seven', 'naïve café 🙂']*20


@pytest.fixture(scope='module')
def tok(): return Tokenizer.train(TEXTS, vocab_size=400)


@pytest.fixture(scope='module')
def marked(): return Tokenizer.train(TEXTS, vocab_size=400, add_cls=True, add_eos=True)


def test_no_texts_and_no_tokens(tok, marked):
    ids,mask = tok([])
    assert ids.shape==mask.shape==(0, 0) and ids.dtype==torch.int64 and mask.dtype==torch.bool and tok.encode([])==[]
    ids,mask = tok([''])
    assert ids.tolist()==[[tok.pad_id]] and mask.tolist()==[[False]]
    assert marked.encode('')==[marked.cls_id, marked.eos_id]


def test_typed_specials_are_text(tok, marked):
    assert tok.pad_id not in tok.encode('a [PAD] b') and tok.decode(tok.encode('a [PAD] b'))=='a [pad] b'
    assert marked.encode('[EOS] is text').count(marked.eos_id)==1


@pytest.mark.parametrize('options', [{}, dict(add_cls=True, add_eos=True), dict(split_identifiers=True, add_eos=True), dict(kind='wordpiece')])
def test_file_copy_and_library_agree(options, tmp_path):
    "Saved and loaded, pickled, copied, or asked word by word: the same ids; cut early, the first of them."
    t = Tokenizer.train(TEXTS, vocab_size=400, **options)
    texts = [*TEXTS[:4], 'two  spaces', ' front', 'back ', 'a\nb', 'half \ud83d', '', ' '.join(TEXTS)]
    want = [t.backend.encode(x.replace('\ud83d', '\ufffd')).ids for x in texts]
    for other in (t, Tokenizer.load(t.save(tmp_path)), pickle.loads(pickle.dumps(t)), copy.deepcopy(t)):
        assert other.encode(texts)==want and other.encode(texts)==want                   # cut, then looked up
        assert (repr(other), other.fingerprint(), len(other))==(repr(t), t.fingerprint(), len(t))
    back = len(t.encode('')) - (1 if t.add_cls else 0)
    for n in (3, 8): assert t.encode(texts, max_length=n)==[ids if len(ids) <= n else ids[:n-back]+ids[len(ids)-back:] for ids in want]


@pytest.mark.skipif(sys.platform!='linux', reason='forks')
def test_forked_worker_neither_hangs_nor_warns(tok):
    with multiprocessing.get_context('fork').Pool(1) as pool:
        assert pool.apply_async(tok.encode, (TEXTS,)).get(timeout=60)==tok.encode(TEXTS)


def test_transformers_reads_the_same_file(marked, tmp_path):
    "Marks, truncation, padding and mask are in the file, or agree by default."
    from transformers import PreTrainedTokenizerFast
    from text_embedding.tokenizer import SPECIALS
    theirs = PreTrainedTokenizerFast(tokenizer_file=str(marked.save(tmp_path)), **{f'{k}_token': v for k,v in SPECIALS.items()})
    for text in [*TEXTS[:4], '', '  Naïve 🙂']:
        assert theirs(text)['input_ids']==marked.encode(text)
        assert theirs(text, truncation=True, max_length=6)['input_ids']==marked.encode(text, max_length=6)
    both,(ids,mask) = theirs(TEXTS[:4], padding=True, return_tensors='pt'),marked(TEXTS[:4])
    assert torch.equal(both['input_ids'], ids) and torch.equal(both['attention_mask'].bool(), mask)
