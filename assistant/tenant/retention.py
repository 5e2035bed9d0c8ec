"""How long a deployment keeps what it stores, in days, by profile.

The stacks take the lifecycles of their buckets and logs from here, and the receipt of a withdrawal its dates.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from assistant.tenant.deployment import Profile

RECOVERY_DAYS = 35
"""DynamoDB's point-in-time recovery, at most; nobody can delete from it."""
SNAPSHOT_DAYS = 14
"""OpenSearch Service's automated snapshots; nobody can delete one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """The days of one profile. Objects expire by their age, then stay as replaced versions."""

    replaced: int
    """Overwritten and deleted versions. A mistake can be undone for so long; a withdrawal is complete only
    after it."""
    capture: int
    capture_texts: int = 7
    """Of clean copies with words. Neither a withdrawal nor an erasure reaches a captured word, so its time is
    short: long enough to look into what an agent complained of. On one machine all clean copies stay as
    long."""
    feedback: int
    """Thirteen months, so that a month can be compared with that of the year before. Nothing that learns
    needs more, and agents are workers (docs/decisions/0050-feedback-on-aws.md)."""
    inbox: int
    """A pushed file is read within minutes; until then it may be pushed again."""
    inbox_replaced: int = 1
    quarantine: int = 1
    """The redactor deletes within the hour; this is the safety net, and one day is S3's minimum."""
    training: int
    """Training sets and checkpoints: withdrawn documents and captures must leave these too."""
    corpus: int
    """A corpus is made again from the documents, so withdrawn ones leave it within this time."""
    jobs_replaced: int = 7
    """Replaced versions in the buckets of jobs, whose content can be made again."""
    logs: int
    """Six years in a HIPAA programme."""


RETENTION: Mapping[Profile, Retention] = {
    "dev": Retention(replaced=1, capture=7, feedback=30, inbox=7, training=7, corpus=7, logs=30),
    "standard": Retention(replaced=14, capture=90, feedback=400, inbox=30, training=180, corpus=90, logs=365),
    "hipaa": Retention(replaced=35, capture=365, feedback=400, inbox=30, training=365, corpus=90, logs=2192),
}
