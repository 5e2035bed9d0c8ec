"""Keys of feedback: ``[feedback]``, and words of captured calls."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import StringConstraints, model_validator

from assistant.tenant.deployment import ModelsSection
from assistant.tenant.tenant import TenantConfig
from assistant.tenant.toml_file import KeyMark, StrictModel, keys_of


class FeedbackSection(StrictModel):
    """What of agents' work with answers is kept to learn from. Agents are workers: they are shown
    ``purpose``, and are named by a keyed pseudonym."""

    purpose: Annotated[str, StringConstraints(strip_whitespace=True, min_length=20, max_length=500)] = (
        "What you mark, send and open is used to improve this assistant: its documents and models. It is not "
        "used to judge you."
    )
    """What it is used for, in words that agents read."""
    edits: bool = True
    """Whether sent texts are compared with the answers, and kept."""
    opened_sources: bool = True
    """Whether opened sources are kept."""
    texts: bool = True
    """Whether words are kept beside labels: questions, answers and what was sent, with patients' data
    replaced, sealed with a key for each document and patient."""
    pseudonyms: str = "state:feedback"
    """Key of the pseudonyms, as ``secrets.document_links``: ``state:NAME``, ``file:PATH`` or ``kms:NAME``.
    With another key everybody has another pseudonym, and no patient's texts can be found again."""


class FeedbackTenant(TenantConfig):
    """A tenant file with the keys of this option."""

    feedback: Annotated[FeedbackSection, KeyMark.NO_ANSWER] = FeedbackSection()


class CapturedModels(ModelsSection):
    """``[models]`` with the keys of this option."""

    capture_texts: Literal["none", "redacted"] = "none"
    """``redacted``: the redactor keeps what was asked and answered, with patients' data replaced as far as
    they are found, and without documents; clean copies then expire after 7 days."""

    @model_validator(mode="after")
    def _texts_need_the_redactor(self) -> Self:
        if self.capture_texts == "redacted" and self.capture != "quarantine":
            raise ValueError(
                f'capture_texts = "redacted" is the work of the redactor, and capture = "{self.capture}" has '
                'none. Write capture = "quarantine", or delete capture_texts'
            )
        return self

    @property
    def keeps_captured_texts(self) -> bool:
        return self.capture_texts == "redacted"


def kept_of(tenant: TenantConfig) -> FeedbackSection:
    """Return what of agents' work a tenant keeps."""
    return keys_of(tenant, FeedbackTenant).feedback
