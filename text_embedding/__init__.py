"Learn how text-embedding models work, and train one from random weights."
__version__ = "0.0.1"

from importlib import import_module

_HOME = {name: module for module, names in dict(
    model='TransformerConfig TextEmbeddingModel',
    presets='encoder ada ada_small baseline tiny static parameter_table',
    tokenizer='Tokenizer',
    inference='Embedder load_model',
    recipe='TrainConfig',
    training='train',
    checkpoint='CheckpointError save_checkpoint load_checkpoint',
    evaluation='evaluate_sts',
    retrieval='evaluate_retrieval',
    data='Source load_pairs register',
).items() for name in names.split()}
__all__ = sorted(_HOME)


def __getattr__(name):
    "Import a public name from its module at first use, so that `import text_embedding` costs nothing."
    if name not in _HOME: raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(f'{__name__}.{_HOME[name]}'), name)


def __dir__(): return sorted([*globals(), *_HOME])
