"""The part of a passage that is shown with a source."""

from __future__ import annotations

from assistant.answering.language import Language
from assistant.answering.sentences import SentenceSpan, split_sentences

_LONGEST_CHARACTERS = 280
_ELLIPSIS = "\N{HORIZONTAL ELLIPSIS}"


def snippet(text: str, *, stems: frozenset[str], language: Language) -> str:
    """Return about two sentences of a passage, beginning with the first that holds most of the stems."""
    spans = split_sentences(text)
    if not spans:
        return ""

    def shared(span: SentenceSpan) -> int:
        return len(language.content_stems(span.text) & stems)

    best = max(spans, key=lambda span: (shared(span), -span.start))
    shown = " ".join(text[best.start : best.start + 2 * _LONGEST_CHARACTERS].split())
    if len(shown) > _LONGEST_CHARACTERS:
        cut = shown.rfind(" ", _LONGEST_CHARACTERS // 2, _LONGEST_CHARACTERS)
        shown = shown[: cut if cut > 0 else _LONGEST_CHARACTERS] + _ELLIPSIS
    return shown if best.start == spans[0].start else _ELLIPSIS + shown
