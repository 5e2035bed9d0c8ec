"""Stacks and constructs of the models lab, and the validators' findings that stay in them."""

from __future__ import annotations

from assistant.options.models_lab.stack import learning, models

EXCEPTIONS = (*models.EXCEPTIONS, *learning.EXCEPTIONS)
