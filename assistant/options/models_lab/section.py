"""Keys of this option: ``[models_lab]``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field

from assistant.tenant.tenant import TenantConfig, TenantSection
from assistant.tenant.toml_file import KeyMark, Tables


class LabSection(TenantSection):
    """``[models_lab]``: what a deployment learns from feedback by itself, and endpoints to try candidates
    on."""

    mark: ClassVar[KeyMark] = KeyMark.DEPLOYMENT_READS

    training: bool = False
    """Whether the learning stack has the bucket of training sets and checkpoints, the role of jobs and the
    request that starts one. A tenant deployed before this key sets it to keep its bucket managed."""
    sets_every_days: int = Field(default=3, ge=0, le=3)
    """With ``training``, the days between two runs of the task that makes a training set of the last 90 days;
    0: no task. At most 3, because an alarm looks back a week and waits for two missed runs."""
    corpora: bool = False
    """Whether there is a corpus stack: an EMR Serverless application that makes corpora of the documents, and
    their bucket. A tenant deployed before this key sets it to keep its stack."""
    trials: bool = False
    """Whether the models stack has the roles of throw-away endpoints (``assistant models try``)."""


TABLES: Tables = {TenantConfig: LabSection}
