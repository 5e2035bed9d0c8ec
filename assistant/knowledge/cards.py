"""Builds a document's card: what the index keeps of it beside its passages."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime

from assistant.domain.documents import Document, DocumentCard, ParsedDocument
from assistant.text.language import fold

SHORTEST_WORD = 3
LONGEST_WORD = 40
"""What is longer is no word: a code, an address, a line of dashes without spaces."""
_WORD = re.compile(r"[^\W_]+(?:'[^\W\d_]+)*")
_SHORT_FORM = re.compile(r"[^\S\n]\(([A-Za-z]{2,6}s?)[),;]")
"""2 to 6 letters in brackets, alone or before a remark; a plural "s" more."""
_LONGEST_BEFORE = 200
"""Characters before a bracket that are searched for the long form."""
_SENTENCE_END = re.compile(r"[.!?;:]\s|[()\n]")


def build_card(
    document: Document, parsed: ParsedDocument, *, content_hash: str, updated_at: datetime
) -> DocumentCard:
    """Return the document's card with its words and the abbreviations that its text defines."""
    return DocumentCard(
        document_id=document.document_id,
        content_hash=content_hash,
        title=document.title,
        questions=document.questions,
        source=document.source,
        type=document.type,
        url=document.url,
        owner=document.owner,
        effective_date=document.effective_date,
        updated_at=updated_at,
        labels=document.labels,
        abbreviations=find_abbreviations(parsed.text),
        words=distinct_words("\n".join((document.title, *document.questions, parsed.text))),
    )


def distinct_words(text: str) -> tuple[str, ...]:
    """Return each different word of SHORTEST_WORD to LONGEST_WORD letters and nothing else, folded."""
    words = {word.removesuffix("'s") for word in _WORD.findall(fold(text))}
    return tuple(
        sorted(word for word in words if SHORTEST_WORD <= len(word) <= LONGEST_WORD and word.isalpha())
    )


def find_abbreviations(text: str) -> tuple[tuple[str, str], ...]:
    """Return (short form, long form) that the text defines as "long form (SF)", folded, in order.

    The method is Schwartz and Hearst's (A simple algorithm for identifying abbreviation definitions in
    biomedical text, PSB 2003). A short form that the text defines differently is left out.
    """
    found: dict[str, set[str]] = {}
    for short, long in _definitions(text):
        found.setdefault(fold(short), set()).add(fold(long))
    return tuple((short, longs.pop()) for short, longs in found.items() if len(longs) == 1)


def _definitions(text: str) -> Iterator[tuple[str, str]]:
    for bracket in _SHORT_FORM.finditer(text):
        short = bracket[1]
        if sum(map(str.isupper, short)) < 2:
            continue  # a word in brackets, not an abbreviation
        before = _SENTENCE_END.split(text[max(0, bracket.start() - _LONGEST_BEFORE) : bracket.start()])[-1]
        plural = short.endswith("s") and len(short) > 2
        short = short[:-1] if plural else short
        words = before.split()[-min(len(short) + 5, 2 * len(short)) :]
        long = _long_form(short.casefold(), " ".join(words))
        if long is not None:
            yield short, long.removesuffix("s") if plural and not long.endswith("ss") else long


def _long_form(short: str, before: str) -> str | None:
    """Return the shortest end of ``before`` that holds the letters in order, the first at a word's start."""
    at = len(before)
    folded = before.casefold()
    if len(folded) != len(before):
        return None  # folding moved the letters
    for place in range(len(short) - 1, -1, -1):
        at -= 1
        while at >= 0 and not (
            folded[at] == short[place] and (place > 0 or at == 0 or not folded[at - 1].isalnum())
        ):
            at -= 1
        if at < 0:
            return None
    long = before[at:]
    return long if len(long) > len(short) and short not in long.casefold().split() else None
