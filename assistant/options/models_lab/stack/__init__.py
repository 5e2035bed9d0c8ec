"""Stacks and constructs of the models lab, and the validators' findings that stay in them."""

from __future__ import annotations

from assistant.options.models_lab.stack import compiling, corpus, training, trials

EXCEPTIONS = (
    *compiling.EXCEPTIONS,
    *trials.EXCEPTIONS,
    *training.EXCEPTIONS,
    *corpus.EXCEPTIONS,
)
