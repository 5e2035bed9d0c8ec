"""Questions that the pharmacy's procedures answer or do not, and text for a scripted model to write."""

from __future__ import annotations

from typing import Any

QUESTION = "A claim came back with reject 79, refill too soon. When can a 30-day supply be filled again?"
UNANSWERABLE = "How do I change the oil of a diesel engine?"

SUPPORTED = "The plan returned NCPDP reject code 79, or our own system stopped an early refill."
UNSUPPORTED = "Penguins migrate across frozen oceans every winter."
"""No passage of the pharmacy says anything like it."""

CITED_TITLE = "Reject 79: refill too soon, including dose changes"
CITED_PASSAGE = "The plan returned NCPDP reject code 79"


def source(n: int, document_id: str, title: str, **changes: Any) -> dict[str, Any]:
    """A source as the ``sources`` event brings it."""
    return {
        "n": n,
        "document_id": document_id,
        "title": title,
        "url": f"https://procedures.pharmacy.example/{document_id}",
        "source": "Claims",
        "snippet": "The plan returned NCPDP reject code 79.",
        "span": [0, 10],
        "content_hash": f"hash-of-{document_id}",
        "document_url": f"/open#token-{n}",
        "heading": "",
        "effective_date": None,
        **changes,
    }


def units(*parts: tuple[str, str, list[int]]) -> list[tuple[str, dict[str, Any]]]:
    """Text with its support and citations, unit by unit, as events; text between units has support ``""``."""
    events: list[tuple[str, dict[str, Any]]] = []
    at = index = 0
    for text, support, citations in parts:
        events.append(("token", {"text": text}))
        if support:
            end = at + len(text.rstrip())
            place = {"index": index, "start": at, "end": end, "citations": citations, "support": support}
            reason = "value_not_cited" if citations else "no_citation"
            check = {"detail": "check", "reasons": [reason]} if support == "unsupported" else {}
            events.append(("sentence", {**place, **check}))
            index += 1
        at += len(text)
    return events


def withheld(*values: str, index: int, at: int) -> tuple[str, dict[str, Any]]:
    """A sentence that was not shown, as an event: its place in the text, and what no source holds."""
    place = {"index": index, "start": at, "end": at, "citations": []}
    return ("sentence", {**place, "support": "unsupported", "detail": "withheld", "values": list(values)})


def done(**changes: Any) -> tuple[str, dict[str, Any]]:
    return ("done", {"finish_reason": "stop", "citations": [1], "recorded": True, **changes})


REFILL, LOST = "refill-too-soon-standard", "lost-medication"
SPOKEN = "The first day that your plan will pay is the date I gave you. Has your dose changed?"
REFILL_TEXT = f"""{CITED_TITLE}

When this applies

The plan returned NCPDP reject code 79, or our own system stopped an early refill.

Steps

1. Find the next fill date. Our thresholds are below. The plan's date wins if it is later.
Fill: Retail, not controlled; Share of the supply that must be used: 75 percent (day 23 of 30)

2. If the date is near, offer to queue the refill. The system sends it on the first payable day.
3. If the days' supply on the last claim was wrong, send it to the pharmacist on duty (ext. 4200).

Exceptions

- School or work supply: some plans allow a second labelled bottle.
- Eye drops: Medicare allows early refills when drops run out because of spillage.

What to tell the patient

"{SPOKEN}"
"""


def _span(text: str, *, first: str, last: str) -> list[int]:
    return [text.index(first), text.index(last) + len(last)]


def refill_document() -> dict[str, Any]:
    """The stored text behind source 1, its steps cited."""
    places = {
        "When this applies": _span(REFILL_TEXT, first="The plan returned", last="early refill."),
        "Steps": _span(REFILL_TEXT, first="1. Find", last="(ext. 4200)."),
        "Exceptions": _span(REFILL_TEXT, first="- School", last="spillage."),
        "What to tell the patient": _span(REFILL_TEXT, first='"The first', last='changed?"'),
    }
    sections = [
        {"headings": [CITED_TITLE, heading], "start": start, "end": end}
        for heading, (start, end) in places.items()
    ]
    return {
        "document_id": REFILL,
        "title": CITED_TITLE,
        "url": f"https://procedures.pharmacy.example/{REFILL}",
        "source": "Claims",
        "type": "procedure",
        "owner": "Claims Desk",
        "effective_date": "2026-04-13",
        "question": None,
        "text": REFILL_TEXT,
        "sections": sections,
        "span": places["Steps"],
        "is_cited_version": True,
        "tables": [],
        "original": None,
        "links": [],
    }


OVERDOSE = {
    "name": "Possible overdose",
    "text": "Stay on the line. Do not advise to induce vomiting.",
    "call": "Poison Control, 1-800-222-1222, at any hour",
}
OFFERED = {
    "item_id": "approved-1",
    "revision": 2,
    "question": "When does the plan pay for the next fill?",
    "text": "The plan pays **from day 23** of a 30-day supply.",
    "n": 2,
}
SECTION = {
    "document_id": REFILL,
    "title": CITED_TITLE,
    "effective_date": "2026-04-13",
    "text": "1. Find the next fill date.\n2. If the date is near, offer to queue the refill.",
    "citations": [1],
}


def refill_sources(**changes: Any) -> tuple[str, dict[str, Any]]:
    """Two passages of one document and one of another, as an event."""
    in_force = {"effective_date": "2026-04-13"}
    steps = "1. Find the next fill date.\n2. If the date is near, offer to queue the refill."
    return (
        "sources",
        {
            "sources": [
                source(1, REFILL, CITED_TITLE, heading=f"{CITED_TITLE} > Steps", snippet=steps, **in_force),
                source(2, LOST, "Lost medication", heading="When this applies", effective_date="2026-06-01"),
                source(3, REFILL, CITED_TITLE, heading=f"{CITED_TITLE} > Exceptions", **in_force),
            ],
            **changes,
        },
    )


def quoted_refill(**changes: Any) -> list[tuple[str, dict[str, Any]]]:
    """An answer of quotes in Markdown with all that the service may say of it, as events."""
    also = {
        "document_id": LOST,
        "title": "Lost medication",
        "effective_date": "2026-06-01",
        "text": "**When this applies**\n\n- A medicine that was *lost*.\n- One that was stolen.",
        "citations": [2],
    }
    return [
        refill_sources(),
        *units(
            ("**Steps**\n\n", "", []),
            ("1. Find the next fill date. Our thresholds are below.\n", "supported", [1]),
            (
                "\n   | Fill | Share that must be used |\n   |---|---|\n"
                "   | Retail, not controlled | 75 percent |\n   | Mail, 90 days | 70 percent |\n\n",
                "supported",
                [1, 3],
            ),
            (
                "2. If the date is near, **offer to queue** the refill. "
                "The system sends it on the first payable day.\n",
                "supported",
                [1],
            ),
        ),
        done(**{"mode": "quoted", "also": [also], **changes}),
    ]
