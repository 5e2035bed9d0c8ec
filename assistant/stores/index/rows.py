"""Rows and hits of the index, which the embedded engine and OpenSearch store and read in the same way.

A row is a passage, or a document's title or one of its questions; its id is ``<document_id>#<number>``. A leg
is one ranked list of a search: score by row id, best first, as ``{"refill#2": 7.1, "copay#0": 5.3}``.

What ``passage_values`` and ``card_values`` return is stored as JSON. A change that ``passage_from`` or
``card_from`` cannot read in old rows needs a new version of the index: ``SCHEMA_VERSION`` of
``embedded_files.py``, and that of OpenSearch's mapping.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

from assistant.domain.documents import (
    VECTOR_LEG_WEIGHT,
    DocumentCard,
    DocumentHit,
    ItemFacts,
    KnownItem,
    KnownWords,
    Passage,
    PassageHit,
    RankedPassage,
    Retrieved,
    Span,
    Unit,
    UnitKind,
    reciprocal_rank_fusion,
)
from assistant.domain.in_force import InForce

LONGEST_WHOLE_TEXT = 200_000
"""About 30,000 words: in UTF-8 less than one bulk call takes."""
UNLABELLED = "*"
"""The term of rows that every agent may see."""
_KINDS: tuple[UnitKind, ...] = tuple(UnitKind)
"""A stored unit has the place of its kind in this list: add kinds at its end."""
Leg = Mapping[str, float]
"""Score (BM25 or cosine) by row id, best first."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(instant: datetime) -> int:
    """Return microseconds since 1970 UTC, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def from_microseconds(value: int) -> datetime:
    """Return the instant of ``microseconds``, in UTC."""
    return _EPOCH + timedelta(microseconds=value)


_PASSAGE_FIELDS = (
    *("passage_id", "document_id", "content_hash", "ordinal", "title", "heading", "text", "token_count"),
    *("source", "type", "url"),
)
"""Fields of a passage whose value is stored unchanged; ``_CARD_FIELDS`` are those of a card."""
_CARD_FIELDS = ("document_id", "content_hash", "title", "source", "type", "url", "owner")


def passage_values(passage: Passage) -> dict[str, Any]:
    """Return the passage as JSON values, with its units."""
    return {
        **{name: getattr(passage, name) for name in _PASSAGE_FIELDS},
        "span": [passage.span.start, passage.span.end],
        "updated_at_us": microseconds(passage.updated_at),
        "labels": passage.labels,
        "units": _unit_values(passage),
    }


def passage_from(values: Mapping[str, Any]) -> Passage:
    """Return the passage of ``passage_values``; without units where ``units`` is None.

    Raises KeyError, IndexError, TypeError or ValueError for other values.
    """
    span, units = Span(*values["span"]), values["units"]
    return Passage(
        **{name: values[name] for name in _PASSAGE_FIELDS},
        span=span,
        updated_at=from_microseconds(values["updated_at_us"]),
        labels=tuple(values["labels"]),
        units=() if units is None else _units_from(units, text=values["text"], span=span),
    )


def _unit_values(passage: Passage) -> dict[str, Any]:
    """Return the units of a passage, each heading and column name once.

    A unit's text is stored only where the passage's text does not contain all of it. Example: two rows of a
    table below "Fees" (ordinals 4 and 5, both of the parent 3; ``terms`` are stems)::

        {
            "headings": ["Fees"],
            "rows": [[4, 3, 120, 150, 0, 3, "plan silver"], [5, 3, 151, 180, 0, 3, "plan gold"]],
            "names": ["Plan"],
            "cells": [(4, [[0, 6, 12]]), (5, [[0, 6, 10]])],
        }

    A row is [ordinal, kind, start, end, heading, parent, terms] and the text, if it is stored: kind is a
    place in ``_KINDS``, heading one in ``headings``. A cell is [place in ``names``, start, end].
    """
    headings = list(dict.fromkeys(unit.heading for unit in passage.units))
    heading_places = {heading: place for place, heading in enumerate(headings)}
    rows: list[list[Any]] = []
    for unit in passage.units:
        kind, span, terms = _KINDS.index(unit.kind), unit.span, " ".join(unit.terms)
        row = [unit.ordinal, kind, span.start, span.end, heading_places[unit.heading], unit.parent, terms]
        rows.append(row if _slice(passage.text, passage.span, unit.span) == unit.text else [*row, unit.text])
    names = list(dict.fromkeys(name for unit in passage.units for name, _, _ in unit.cells))
    name_places = {name: place for place, name in enumerate(names)}
    cells = {
        unit.ordinal: [[name_places[name], start, end] for name, start, end in unit.cells]
        for unit in passage.units
        if unit.cells
    }
    return {"headings": headings, "rows": rows, "names": names, "cells": list(cells.items())}


def _units_from(values: Mapping[str, Any], *, text: str, span: Span) -> tuple[Unit, ...]:
    """Return the units of ``_unit_values``. ``text`` and ``span``: of their passage.

    Rows of an older release have neither ``names`` nor ``cells``.
    """
    headings, names = values["headings"], values.get("names", ())
    cells = {
        ordinal: tuple((names[name], start, end) for name, start, end in placed)
        for ordinal, placed in values.get("cells", ())
    }
    units: list[Unit] = []
    rows: list[list[Any]] = values["rows"]
    for ordinal, kind, start, end, heading, parent, terms, *own_text in rows:
        within = Span(start, end)
        units.append(
            Unit(
                ordinal=ordinal,
                kind=_KINDS[int(kind)],
                text=own_text[0] if own_text else _slice(text, span, within),
                span=within,
                heading=headings[heading],
                parent=parent,
                terms=tuple(terms.split()),
                cells=cells.get(ordinal, ()),
            )
        )
    return tuple(units)


def _slice(text: str, span: Span, wanted: Span) -> str:
    """Return the part of ``text`` that is at ``wanted`` in the document; ``text`` itself is at ``span``.
    Return "" for a part that begins before the text."""
    start = wanted.start - span.start
    return text[start : start + wanted.end - wanted.start] if start >= 0 else ""


def label_terms(labels: Iterable[str]) -> list[str]:
    """Return labels as terms of an index: "pharmacist" as "=pharmacist". With the "=", no label equals
    UNLABELLED."""
    return [f"={label}" for label in labels]


def visibility(labels: Iterable[str]) -> list[str]:
    """Return the terms of a row with these labels: a search finds it by one of them. A search by an agent
    asks for UNLABELLED and the ``label_terms`` of the agent's labels."""
    return label_terms(labels) or [UNLABELLED]


def card_values(card: DocumentCard) -> dict[str, Any]:
    """Return the card as JSON values. An item, a banner and what says when it is in force have
    a key only where the card has one."""
    return {
        **{name: getattr(card, name) for name in _CARD_FIELDS},
        "questions": card.questions,
        "effective_date": card.effective_date and card.effective_date.isoformat(),
        "updated_at_us": microseconds(card.updated_at),
        "labels": card.labels,
        "abbreviations": card.abbreviations,
        "words": " ".join(card.words),
        **({} if card.item is None else {"item": card.item.model_dump(mode="json", exclude_defaults=True)}),
        **({"banner": card.banner} if card.banner else {}),
        **({} if card.in_force is None else {"in_force": card.in_force.model_dump(mode="json")}),
    }


def card_from(values: Mapping[str, Any]) -> DocumentCard:
    """Return the card of ``card_values``. Raises KeyError, TypeError or ValueError for other values."""
    effective = values["effective_date"]
    return DocumentCard(
        **{name: values[name] for name in _CARD_FIELDS},
        questions=tuple(values["questions"]),
        effective_date=None if effective is None else date.fromisoformat(effective),
        updated_at=from_microseconds(values["updated_at_us"]),
        labels=tuple(values["labels"]),
        abbreviations=tuple((short, long) for short, long in values["abbreviations"]),
        words=tuple(values["words"].split()),
        item=ItemFacts.model_validate(values["item"]) if "item" in values else None,
        banner=values.get("banner", ""),
        in_force=InForce.model_validate(values["in_force"]) if "in_force" in values else None,
    )


def whole_text(passages: Iterable[Passage]) -> str:
    """Return a document's text from its passages, with each heading before its first passage. It is cut at
    LONGEST_WHOLE_TEXT characters: words behind that are found by the legs of passages only."""
    parts: list[str] = []
    heading = ""
    for passage in passages:
        if passage.heading != heading:
            heading = passage.heading
            parts.append(heading)
        parts.append(passage.text)
    return "\n".join(parts)[:LONGEST_WHOLE_TEXT]


def known_item(card: DocumentCard) -> KnownItem | None:
    """Return the item that a document describes; None for one that says neither a price nor a property."""
    item = card.item
    if item is None or (item.price is None and not item.properties):
        return None
    return KnownItem(card.document_id, card.title, item)


def known_words_of(
    definitions: Mapping[tuple[str, str], int],
    *,
    items: Iterable[KnownItem | None] = (),
) -> KnownWords:
    """Return the abbreviations that all documents define in the same way, and the items, in order of id.

    ``definitions`` counts the documents of each (short form, long form). Of long forms that differ in a
    plural "s" alone, the most frequent is taken; a short form with others is left out::

        {("PA", "prior authorization"): 4, ("PA", "prior authorizations"): 1, ("MA", "Medicare Advantage"): 1,
         ("MA", "medical assistant"): 1}  # {"PA": "prior authorization"}
    """
    long_forms: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for (short, long), documents in definitions.items():
        long_forms[short][long] = documents
    agreed = {
        short: min(longs, key=lambda long: (-longs[long], len(long), long))
        for short, longs in long_forms.items()
        if len({long.removesuffix("s") for long in longs}) == 1
    }
    known = sorted((item for item in items if item is not None), key=lambda item: item.document_id)
    return KnownWords(abbreviations=agreed, items=tuple(known))


def document_id_of(row_id: str) -> str:
    """Return the document of a row; no document id contains "#"."""
    return row_id.rpartition("#")[0]


def documents_of_legs(legs: Mapping[str, Leg]) -> list[str]:
    """Return the ids of the documents that any leg found, sorted."""
    return sorted({document_id_of(row_id) for leg in legs.values() for row_id in leg})


def retrieved(
    legs: Mapping[str, Leg],
    *,
    size: int,
    index_version: str,
    cosines: Mapping[str, float | None],
    passages: Callable[[Sequence[str]], Mapping[str, Passage]],
) -> Retrieved:
    """Return the result of a search: the fused legs of passages, and the documents of all legs.

    ``legs``: ``lexical`` and ``vector`` are of passages; ``title``, ``text`` and ``title_vector`` are of
    documents, and may be absent. ``cosines``: by passage id, for every passage in ``lexical`` or ``vector``;
    None where it is not known. ``passages`` is called once, with the ids of the best ``size``, and returns by
    id those that still exist.
    """
    lexical, vector = legs["lexical"], legs["vector"]
    title_scores, text_scores, title_cosines = (
        _best_of_documents(legs.get(name, {})) for name in ("title", "text", "title_vector")
    )
    hits = tuple(
        PassageHit(
            passage_id=name,
            document_id=document_id_of(name),
            lexical_score=lexical.get(name),
            cosine=cosines[name],
        )
        for name in sorted({*lexical, *vector})
    )
    documents = tuple(
        DocumentHit(
            document_id=name,
            title_cosine=title_cosines.get(name),
            title_score=title_scores.get(name),
            text_score=text_scores.get(name),
        )
        for name in documents_of_legs(legs)
    )
    fused = reciprocal_rank_fusion([list(lexical), list(vector)], weights=(1.0, VECTOR_LEG_WEIGHT))
    best = list(fused)[:size]
    ranked = _ranked(lexical, vector, fused=fused, cosines=cosines, passages=passages(best))
    best_cosine = next(iter(vector.values()), 0.0)  # a leg is best first
    return Retrieved(ranked, best_cosine, index_version, hits=hits, documents=documents)


def _ranked(
    lexical: Leg,
    vector: Leg,
    *,
    fused: Leg,
    cosines: Mapping[str, float | None],
    passages: Mapping[str, Passage],
) -> tuple[RankedPassage, ...]:
    """Return the passages in the order of ``fused``, with the rank and score of each leg."""
    lexical_ranks, vector_ranks = (
        {name: rank for rank, name in enumerate(leg, start=1)} for leg in (lexical, vector)
    )
    return tuple(
        RankedPassage(
            passage=passages[name],
            rank=rank,
            fused_score=fused[name],
            lexical_rank=lexical_ranks.get(name),
            lexical_score=lexical.get(name),
            vector_rank=vector_ranks.get(name),
            cosine=cosines[name],
        )
        for rank, name in enumerate((name for name in fused if name in passages), start=1)
    )


def _best_of_documents(leg: Leg) -> dict[str, float]:
    """Return each document's best score: the leg is best first."""
    best: dict[str, float] = {}
    for row_id, score in leg.items():
        best.setdefault(document_id_of(row_id), score)
    return best
