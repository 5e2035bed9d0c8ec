"""Keys of the models lab: ``[learning]``, and endpoints to try candidates on."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from assistant.tenant.deployment import ModelsSection
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, StrictModel, keys_of


class LearningSection(StrictModel):
    """``[learning]``: what a deployment learns from feedback by itself."""

    training: bool = False
    """Whether the learning stack has the bucket of training sets and checkpoints, the role of jobs and the
    request that starts one. A tenant deployed before this key sets it to keep its bucket managed."""
    sets_every_days: int = Field(default=3, ge=0, le=3)
    """With ``training``, the days between two runs of the task that makes a training set of the last 90 days;
    0: no task. At most 3, because an alarm looks back a week and waits for two missed runs."""
    corpora: bool = False
    """Whether there is a corpus stack: an EMR Serverless application that makes corpora of the documents, and
    their bucket. A tenant deployed before this key sets it to keep its stack."""


class LabTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    learning: Annotated[LearningSection, KeyMark.DEPLOYMENT_READS] = LearningSection()


class LabModels(ModelsSection):
    """``[models]`` with the keys of this option."""

    trials: bool = False
    """Whether the models stack has the roles of throw-away endpoints (``assistant models try``)."""


def learning_of(tenant: TenantConfig) -> LearningSection:
    """Return what a deployment of the tenant learns by itself."""
    return keys_of(tenant, LabTenant).learning
