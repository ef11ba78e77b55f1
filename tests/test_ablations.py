"bench/ablations.py runs the driver of lesson 19, which measures what it says."
import json, sys

import numpy as np
import pytest
from conftest import ROOT

sys.path.insert(0, str(ROOT/'bench'))


@pytest.fixture(scope='module')
def lesson():
    from ablations import driver
    return driver()


def test_driver_is_whole(lesson):
    "Every change is expected, every config is valid, and only the intended parts differ from the base."
    assert {'Run', 'race', 'record', 'difference', 'verdict', 'VARIANTS', 'SEARCH', 'CAPTIONS'} <= set(lesson)
    base = lesson['make_config']({}).to_dict()
    for name,changes in lesson['VARIANTS'].items():
        changes = {k: v for k,v in changes.items() if k!='other_start'}
        c = lesson['make_config'](changes).to_dict()
        assert {k for k in c if c[k]!=base[k]} == set(changes), name


def test_interrupted_race_goes_on(lesson, tmp_path, monkeypatch):
    "A seed that is in the file is not run again, and neither is a variant."
    ran = []
    monkeypatch.setitem(lesson, 'race', lambda variants, seed, *a: ran.append((seed, list(variants))) or dict.fromkeys(variants))
    monkeypatch.setitem(lesson, 'as_row', lambda run, tasks: dict(dev=[0.], test=[0.]))
    data,file = type('Data', (), dict(tasks={})),tmp_path/'out'/'rows.json'
    lesson['record']({'base': {}}, (0,), 1., data, file)
    rows = lesson['record']({'base': {}, 'other': {}}, (0, 1), 1., data, file)
    assert ran == [(0, ['base']), (0, ['other']), (1, ['base', 'other'])]
    assert set(rows) == {(n, s) for n in ('base', 'other') for s in (0, 1)} and len(json.loads(file.read_text())) == 4


def test_verdict_needs_interval_and_seeds(lesson):
    "Both the interval over examples and the seeds must agree; one seed that disagrees is enough to say nothing."
    task,rng = dict(anchor=[], positive=[]),np.random.default_rng(0)
    base = {('base', s): dict(test=rng.random(300)*.5) for s in (0, 1, 2)}
    up = {('up', s): dict(test=base['base', s]['test']+.1) for s in (0, 1, 2)}
    mixed = {('mixed', s): dict(test=base['base', s]['test']+(.5 if s else -.01)) for s in (0, 1, 2)}
    e = lesson['difference'](base | up, 'up', 'test', task)
    assert e['low'] == pytest.approx(e['mean']) == pytest.approx(10) and lesson['verdict'](e) == 'better'      # the same gain everywhere: paired draws do not move it
    e = lesson['difference'](base | mixed, 'mixed', 'test', task)
    assert e['low'] > 0 and lesson['verdict'](e) == 'no difference seen'
