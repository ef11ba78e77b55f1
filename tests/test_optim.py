"Routing where models are unusual, and the precision of Newton-Schulz by device."
from unittest import mock

import pytest
import torch
from torch import nn

from text_embedding.model import TextEmbeddingModel
from text_embedding.presets import static, tiny
from text_embedding.optim import fast_dtype, newton_schulz, route_parameters


def test_frozen_wrapped_and_static_models_are_routed():
    net = TextEmbeddingModel(tiny(vocab_size=50)); net.token_embedding.weight.requires_grad_(False)
    routed = {id(p) for g in route_parameters(net) for p in g['params']}
    assert id(net.token_embedding.weight) not in routed and len(routed)==len(list(net.parameters()))-1
    wrapped = nn.ModuleDict(dict(module=net))                                  # as data-parallel wrappers rename everything
    assert [len(g['params']) for g in route_parameters(wrapped)]==[len(g['params']) for g in route_parameters(net)]
    assert [g['name'] for g in route_parameters(TextEmbeddingModel(static(vocab_size=50)))]==['adamw_no_decay']


def test_a_tied_parameter_comes_once():
    net = nn.Module(); net.token_embedding = nn.Embedding(6, 4); net.head = nn.Linear(4, 6, bias=False); net.head.weight = net.token_embedding.weight
    assert [(g['name'], len(g['params'])) for g in route_parameters(net)]==[('adamw_no_decay', 1)]


def test_tables_have_a_rate_of_their_own():
    net = TextEmbeddingModel(tiny(vocab_size=50))
    groups = route_parameters(net, optimizer='adamw', learning_rate=1e-3, embedding_lr=2e-2)
    assert [(g['name'], g['lr']) for g in groups]==[('adamw', 1e-3), ('adamw_no_decay', 1e-3), ('adamw_tables', 2e-2)]
    assert sum(len(g['params']) for g in groups)==len(list(net.parameters()))
    assert 'adamw_tables' not in [g['name'] for g in route_parameters(net, embedding_lr=0)]   # 0: frozen


@pytest.mark.parametrize('capability, dtype', [((6, 1), torch.float32), ((7, 5), torch.float16), ((8, 0), torch.bfloat16)], ids=['GTX 1080', 'T4', 'A100'])
def test_products_run_in_what_the_device_has(capability, dtype):
    with mock.patch('torch.cuda.get_device_capability', return_value=capability): assert fast_dtype(torch.device('cuda')) is dtype
    assert fast_dtype(torch.device('cpu')) is torch.float32


def test_a_stack_is_its_matrices_one_by_one():
    stack = torch.randn(3, 24, 64)
    torch.testing.assert_close(newton_schulz(stack)[1], newton_schulz(stack[1]))
