"""A shop with three humidifiers, and reviews of two."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from decimal import Decimal

from assistant.domain.documents import ItemFacts, StoredDocument
from tests.fakes.answering import FakeTenant, document

DATED = date(2026, 11, 20)
SOURCES: list[dict[str, object]] = [
    {"name": "catalogue", "access": "everyone", "kind": "catalogue"},
    {"name": "reviews", "access": "everyone", "kind": "reviews"},
    {"name": "help", "access": "everyone", "kind": "help"},
]
WEIGHTS = "What is the weight of the Aria Mist 200 and of the Aria Mist 300?"
QUIET = "a humidifier with a noise level under 40 dB"
LONG_AGO = date(2025, 2, 3)


def item(
    number: int, *, weight: str, noise: str, price: str, labels: tuple[str, ...] = (), **more: str
) -> StoredDocument:
    properties = {"Weight": weight, "Noise level": noise, **more}
    lines = "\n".join(f"- {name}: {value}" for name, value in {"Price": f"${price}", **properties}.items())
    title = f"Aria Mist {number}"
    made = document(
        f"catalogue:A-{number}",
        f"A humidifier: {title}.\n\n{lines}\n\nBoil the water.",
        title=title,
        labels=labels,
        effective_date=DATED,
    )
    facts = ItemFacts(
        item_id=f"A-{number}",
        category="Humidifiers",
        price=Decimal(price),
        currency="USD",
        properties=properties,
        ratings=0,
    )
    return replace(made, card=replace(made.card, item=facts))


def review(item_id: str, number: int, stars: float, text: str, *, votes: int = 0) -> StoredDocument:
    title = f"Aria Mist {item_id.removeprefix('A-')}: so so"
    made = document(f"reviews:{item_id}-r{number}", text, title=title, effective_date=LONG_AGO)
    facts = ItemFacts(item_id=item_id, rating=stars, helpful_votes=votes)
    return replace(made, card=replace(made.card, item=facts))


LIGHT = item(200, weight="1.2 kg", noise="38 dB", price="59.90", Mist="cool")
HEAVY = item(300, weight="2 kg", noise="28 dB", price="89.00", Mist="warm")
GONE = item(100, weight="1 kg", noise="24 dB", price="19.00", Discontinued="no longer made")
REVIEWS = [
    review("A-300", 1, 5.0, "You barely hear it at night."),
    review("A-300", 2, 1.0, "It leaked on the dresser."),
    review("A-300", 3, 1.0, "It broke within a week.", votes=40),
    review("A-200", 1, 3.0, "It does its job."),
]


def shop(*documents: StoredDocument) -> FakeTenant:
    tenant = FakeTenant()
    tenant.configure(sources=SOURCES)  # pyright: ignore[reportArgumentType]
    return tenant.with_documents(*(documents or (LIGHT, HEAVY, GONE, *REVIEWS)))
