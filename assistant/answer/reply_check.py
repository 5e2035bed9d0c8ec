"""Checks a text for a patient against the lines and live values of its answer, without a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from assistant.domain.answers import ReplyCheck
from assistant.text.language import Language, split_sentences
from assistant.text.values import Values


def check_reply(
    text: str, *, lines: Sequence[str], given: Sequence[str], language: Language
) -> tuple[ReplyCheck, ...]:
    """Return the faults of a text, in its order.

    ``lines``: of the answer's documents, each below its title and heading. ``given``: live values, and the
    messages of the conversation.
    """
    held = Values.joined([Values.of(each, language) for each in (*lines, *given)])
    return tuple(_foreign(text, held))


def _foreign(text: str, held: Values) -> Iterator[ReplyCheck]:
    for sentence in split_sentences(text):
        if foreign := held.missing(sentence.text, spelled=False):
            yield ReplyCheck(kind="not_held", start=sentence.start, end=sentence.end, values=foreign)
