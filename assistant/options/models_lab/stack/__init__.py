"""Stacks and constructs of the models lab, and the validators' findings that stay in them."""

from __future__ import annotations

from assistant.options.models_lab.stack.learning import LearningOfLab
from assistant.options.models_lab.stack.models import ModelsOfLab


class LabStacks(LearningOfLab, ModelsOfLab):
    """What the lab adds for learning and for models."""

    exceptions = (*ModelsOfLab.exceptions, *LearningOfLab.exceptions)
