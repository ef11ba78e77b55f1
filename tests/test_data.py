"Reading tables: which rows a source takes, what is text, and the two kinds of failure."
import sys

import pytest
from conftest import run

from text_embedding.data import REGISTRY, Source, Unreachable, drop_leaks, key_share, load_and_count, load_pairs, open_source, split_by_key, text_keys


def test_where_and_unless_choose_rows(tmp_path):
    f = tmp_path/'origin.csv'; f.write_text('anchor,positive,origin\na cat,one cat,x\na dog,one dog,y\nan owl,one owl,z\n')
    only,others = (load_pairs(Source('some', str(f), **choice))['anchor'][:] for choice in (dict(where=('origin', 'y')), dict(unless=('origin', 'y'))))
    assert only==['a dog'] and others==['a cat', 'an owl']


def test_words_for_nothing_are_text(tmp_path):
    for name,sep in (('a.csv', ','), ('a.tsv', '\t')):
        f = tmp_path/name; f.write_text(f'anchor{sep}positive\nNA{sep}null\nNone{sep}nothing\n')
        assert load_pairs(str(f))['anchor'][:]==['NA', 'None']


def test_only_a_missing_network_is_unreachable(tmp_path, monkeypatch):
    "What a fallback may catch: no network. A wrong path or a broken file is an error all the same."
    monkeypatch.setattr('datasets.config.HF_HUB_OFFLINE', True)
    with pytest.raises(Unreachable, match='no network'): open_source(REGISTRY['mrpc'])
    (tmp_path/'x.csv').write_text('')
    for source in (Source('a', str(tmp_path/'no.csv')), Source('a', str(tmp_path/'x.csv')), Source('a', 'local/none')):
        with pytest.raises(ValueError) as e: open_source(source)
        assert not isinstance(e.value, Unreachable)


def test_a_proxy_that_is_not_there_is_said_at_once():
    "Whoever sits behind a proxy that refuses does not wait half a minute for each source."
    code = "from text_embedding.data import REGISTRY, Unreachable, open_source\nimport datasets, time; start = time.time()\nfor name in ('mrpc', 'nli'):\n    try: open_source(REGISTRY[name])\n    except Unreachable as e: print(e)\nassert time.time()-start < 12, time.time()-start"
    nowhere = 'http://127.0.0.1:9'
    r = run(sys.executable, '-c', code, env=dict(HF_HUB_OFFLINE='0', http_proxy=nowhere, https_proxy=nowhere, HTTP_PROXY=nowhere, HTTPS_PROXY=nowhere, no_proxy='', NO_PROXY=''))
    assert r.stdout.count('no network?')==2


def test_data_root_stands_in_front_of_the_hub(tmp_path):
    d = tmp_path/'nyu-mll/glue/mrpc'; d.mkdir(parents=True)
    (d.parent/'README.md').write_text('---\nconfigs:\n- config_name: mrpc\n  data_files: mrpc/train.jsonl\n---\n')
    (d/'train.jsonl').write_text('\n'.join(f'{{"sentence1": "a {i}", "sentence2": "b {i}", "label": {i%2}}}' for i in range(3000)))
    assert load_and_count('mrpc', tmp_path)[1]['kept']==1500


def test_a_key_decides_its_side_alone():
    from datasets import Dataset
    ds = Dataset.from_dict(dict(anchor=[f'a{i}' for i in range(900)], positive=[f'p{i}' for i in range(900)], key=text_keys(str(i//3) for i in range(900))))
    train,held = split_by_key(ds, .2)
    assert not set(train['key']) & set(held['key']) and len(train)+len(held)==900
    assert set(split_by_key(ds.select(range(300)), .2)[1]['anchor']) <= set(held['anchor'])
    assert (key_share(ds['key'])!=key_share(ds['key'], seed=1)).any() and len(drop_leaks(ds, ['A1!', 'p5'])[0])==898
