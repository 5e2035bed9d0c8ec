"""The events of a streamed answer: started, preview, sources, (token | sentence | element)*,
checks, done, checked | error.

They are the wire format: the OpenAPI file has their JSON Schema. Clients ignore unknown events and fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from assistant.domain.answers import (
    AlsoPossible,
    AnswerEnding,
    FinishReason,
    OfferedAnswer,
    RedFlag,
    ReplyCheck,
    Sentence,
    SentenceCheck,
    Source,
    Usage,
)
from assistant.domain.live import Element
from assistant.domain.public import PublicModel


def unchecked_notice(language: str) -> str:
    """Return what stands in the place of a red flag where they are not checked in the message's language.
    ``language``: its ISO 639-1 code."""
    return (
        f"This message seems to be written in another language ({language}). Emergencies are not checked in"
        " it here: read it yourself for an emergency."
    )


class Started(PublicModel):
    event: ClassVar[str] = "started"
    answer_id: str
    conversation_id: str
    model: str
    index_version: str
    trace_id: str | None
    resumable: bool = False
    """Whether the answer goes on without a reader, or a repeat joins it, so that one who was cut off can come
    back."""
    red_flags: tuple[RedFlag, ...] = ()
    """Emergencies that the message may be about: shown above whatever answer comes."""
    unchecked_language: str | None = None
    """ISO 639-1 code of the message's language, where red flags are not checked in it: the tenant has red
    flags, and without a model they are checked in English only. ``red_flags`` ends it."""
    language: str | None = Field(default=None, exclude_if=lambda code: code is None)
    """ISO 639-1 code of the language that a reply is written in; absent for an answer."""
    recorded_model: str | None = None
    """Where a recording plays in place of a model: which model was recorded, and when."""


class Preview(PublicModel):
    """The section that the words of the conversation find, to read until the sources are there."""

    event: ClassVar[str] = "preview"
    section: AlsoPossible


class RedFlags(PublicModel):
    """Emergencies that the model's reading names beside those of ``started``; once at most. It reads every
    language: so where ``started`` has an ``unchecked_language`` it comes also without any."""

    event: ClassVar[str] = "red_flags"
    red_flags: tuple[RedFlag, ...]


class Sources(PublicModel):
    event: ClassVar[str] = "sources"
    sources: tuple[Source, ...]
    section: AlsoPossible | None = None
    """The best document's best section, to read while a model writes; absent where the answer is quoted."""
    offered: OfferedAnswer | None = None
    """An approved answer to a near question, shown first."""


@dataclass(slots=True)
class Token:
    """The next piece of the answer's text: a quoted unit or a checked sentence, Markdown. A dataclass, for
    this is the hot path."""

    event: ClassVar[str] = "token"
    text: str


class SentenceEnded(Sentence):
    event: ClassVar[str] = "sentence"


class ElementChanged(Element):
    """A live element in its present state: pending first, then, before ``done``, once what it ended as. Its
    place in the text is known; the values are untrusted text, never Markdown."""

    event: ClassVar[str] = "element"


class Checks(PublicModel):
    """What code finds in a written reply, while a model reads it; ``done`` has all checks."""

    event: ClassVar[str] = "checks"
    checks: tuple[ReplyCheck, ...]


class Done(AnswerEnding):
    event: ClassVar[str] = "done"
    finish_reason: FinishReason
    citations: tuple[int, ...]
    """Numbers of the sources that the answer cites, ascending."""
    usage: Usage
    timings_ms: dict[str, float]
    reason: str | None = None
    """For ``sources_only``: the code of what failed. For ``no_evidence``: what was missing, in words."""
    asks: bool = Field(default=True, exclude_if=lambda asks: asks)
    """False for a greeting or thanks, to which ``no_evidence`` is the right end. Omitted otherwise."""
    check_follows: bool = Field(default=False, exclude_if=lambda follows: not follows)
    """Whether a model is checking the sentences, so that ``checked`` follows. Otherwise no model checks them:
    none writes, or its checks were not measured, or are not good enough."""
    recorded: bool = True
    """False when the record could not be written yet: it follows as soon as the store answers again, and
    until then the answer cannot be marked."""


class Checked(PublicModel):
    """What a model says of each sentence that was shown, after ``done``. Where it gave no verdict in time
    ``sentences`` is empty: then nothing was checked."""

    event: ClassVar[str] = "checked"
    by: str
    """Id of the model that checked."""
    sentences: tuple[SentenceCheck, ...]


class Problem(PublicModel):
    """``application/problem+json`` (RFC 9457) with a stable code. Body of an error status and data of
    the ``error`` event."""

    event: ClassVar[str] = "error"
    type: str = "about:blank"
    title: str
    status: int
    detail: str
    code: str
    retryable: bool
    findings: tuple[ReplyCheck, ...] = Field(default=(), exclude_if=lambda findings: not findings)
    """Of a text that is not sent (``reply_findings``): what the check found."""


AnswerEvent = (
    Started
    | Preview
    | RedFlags
    | Sources
    | Token
    | SentenceEnded
    | ElementChanged
    | Checks
    | Done
    | Checked
    | Problem
)
