"""What was sent to a patient, with live values apart: the record has labels in their places.

A record is kept for years. A value of a live element in it would be kept as long, so it is stored apart, for
``records.live_values_days`` of the tenant file, and is put back where a text is read while it lives.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from assistant.answering.ports import SentValues, ValuesOfSent
from assistant.domain.answers import MOST_SENT_CHARACTERS, AnswerRecord, LiveSpan, Sent, StoredSent
from assistant.domain.elements import ElementUse
from assistant.domain.errors import InvalidRequestError
from assistant.live.markup import label_of


class SentTexts:
    """Takes the values out of sent texts, and puts them back. ``days``: how long they are kept; 0: never."""

    def __init__(self, values: SentValues, *, days: int) -> None:
        self._values = values
        self._kept_for = timedelta(days=days)

    async def keep(self, stored: StoredSent, values: Sequence[str], *, now: datetime) -> StoredSent:
        """Keep the values of a recorded text; return the text with them, or with labels where none is kept.

        A repeat of the request after their time keeps nothing. Raises RecordsUnavailableError.
        """
        until = self._until(stored)
        if not values or until is None or until <= now:
            return stored
        kept = ValuesOfSent(stored.answer_id, stored.sent.send_id, tuple(values), until)
        return joined(stored, await self._values.keep(kept))

    async def read(
        self, answer_id: str, stored: Sequence[StoredSent], *, now: datetime
    ) -> tuple[StoredSent, ...]:
        """Return an answer's sent texts with the values that may still be read: by their own time, and by the
        tenant's file of today. Raises RecordsUnavailableError."""
        ends = {one.sent.send_id: self._until(one) for one in stored if one.sent.live}
        live = {send_id for send_id, until in ends.items() if until is not None and until > now}
        if not live:
            return tuple(stored)
        values = await self._values.of(answer_id)
        return tuple(
            joined(one, values.get(one.sent.send_id)) if one.sent.send_id in live else one for one in stored
        )

    def _until(self, stored: StoredSent) -> datetime | None:
        return (stored.at + self._kept_for).replace(microsecond=0) if self._kept_for else None


def without_values(sent: Sent, record: AnswerRecord) -> tuple[Sent, list[str]]:
    """Return a sent text with labels in place of its live values, and the values in order.

    Raises InvalidRequestError for a span of an element that the answer does not have, and for a text that is
    too long with labels.
    """
    uses = {use.id: use for use in record.elements}
    if unknown := [span.element_id for span in sent.live if span.element_id not in uses]:
        raise InvalidRequestError(
            f"live names {unknown[0]}, which the answer does not have; its elements: "
            f"{', '.join(uses) or 'none'}."
        )
    labelled = _replaced(sent, [_label(uses[span.element_id]) for span in sent.live])
    if len(labelled.text) > MOST_SENT_CHARACTERS:
        raise InvalidRequestError(
            f"With labels in place of live values the text has {len(labelled.text)} characters; shorten it "
            f"to {MOST_SENT_CHARACTERS}."
        )
    return labelled, [sent.text[span.start : span.end] for span in sent.live]


def joined(stored: StoredSent, kept: ValuesOfSent | None) -> StoredSent:
    """Return a stored text with its values; as it is where they are not kept any more."""
    if kept is None or len(kept.values) != len(stored.sent.live):
        return stored
    return stored.model_copy(
        update={"sent": _replaced(stored.sent, kept.values), "live_until": kept.expires_at}
    )


def _label(use: ElementUse) -> str:
    return label_of(use.title or use.name)


def _replaced(sent: Sent, words: Sequence[str]) -> Sent:
    """Return a text with these words in its spans, which move with them."""
    parts: list[str] = []
    spans: list[LiveSpan] = []
    at = length = 0
    for span, word in zip(sent.live, words, strict=True):
        before = sent.text[at : span.start]
        start = length + len(before)
        length = start + len(word)
        parts += (before, word)
        spans.append(span.model_copy(update={"start": start, "end": length}))
        at = span.end
    return sent.model_copy(update={"text": "".join((*parts, sent.text[at:])), "live": tuple(spans)})
