"""What became of an uploaded file."""

from __future__ import annotations

from pydantic import Field

from assistant.domain.public import PublicModel

MOST_LISTED = 100


class UploadRefusal(PublicModel):
    """A file, line or document that was refused."""

    origin: str
    code: str
    reason: str


class UploadResult(PublicModel):
    """What became of an uploaded file."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    withdrawn: int = 0
    waiting: int = 0
    """Documents that wait for a second person's release."""
    document_ids: tuple[str, ...] = ()
    """The first 100 documents of the file."""
    refused: int = 0
    refusals: tuple[UploadRefusal, ...] = Field(default=(), max_length=MOST_LISTED)
    """The first 100."""
    notes: tuple[str, ...] = Field(default=(), max_length=MOST_LISTED)
    """What of the file was not read: a scanned page, a hidden sheet."""
    words: int = Field(default=0, exclude_if=lambda count: count == 0)
    """Of a document that was read again: words that it has now."""
    words_changed: int = Field(default=0, exclude_if=lambda count: count == 0)
    """Words that it had and has not, or has and had not, or that stand elsewhere."""
