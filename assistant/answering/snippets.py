"""The part of a passage that is shown with a source."""

from __future__ import annotations

from assistant.answering.passage_text import PassageText

_LONGEST_CHARACTERS = 280
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def snippet(passage: PassageText, *, stems: frozenset[str]) -> str:
    """Return about two sentences of a passage, beginning with the first that holds most of the stems."""
    text, spans = passage.passage.text, passage.sentences
    if not spans:
        return ""
    shared = [len(statement.terms & stems) for statement in passage.statements]
    best = spans[max(range(len(spans)), key=lambda index: (shared[index], -index))]
    shown = " ".join(text[best.start : best.start + 2 * _LONGEST_CHARACTERS].split())
    if len(shown) > _LONGEST_CHARACTERS:
        cut = shown.rfind(" ", _LONGEST_CHARACTERS // 2, _LONGEST_CHARACTERS)
        shown = shown[: cut if cut > 0 else _LONGEST_CHARACTERS] + _ELLIPSIS
    return shown if best.start == spans[0].start else _ELLIPSIS + shown
