"""Makes the data of the shop: catalogue, reviews, community, help pages and the stores' data (docs/shop.md).

``python -m tools.shop_data`` writes ``knowledge/shop/*.jsonl`` with 200 items and 2,000 reviews. The numbers
of items and reviews and a seed decide all of it: the same arguments give the same bytes. Words, ranges and
names are in ``tools/shop_families.toml``.
"""

from __future__ import annotations

import argparse
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import orjson

HERE = Path(__file__).parent
FOLDER = HERE.parent / "knowledge" / "shop"
TODAY = date(2026, 11, 20)
"""The day on which the shop's data is true."""
ITEMS, REVIEWS = 200, 2_000
CURRENCY = "USD"
STORES = {
    "warehouse": "Warehouse",
    "north": "Northgate",
    "harbour": "Harbour Street",
    "west": "Westfield Road",
}
MOST_REVIEWS = 40
"""Of one item, about: the rest goes to others."""

_FIRST_REVIEW = date(2024, 6, 1)
_DAYS_OF_REVIEWS = 880
_STEP_BETWEEN_MODELS = 0.22
_OUT_OF_STOCK, _DISCONTINUED = 0.08, 0.04
_LEAST_CHANCE = 0.12
"""Of praise for the worst item, and of blame for the best."""
_ACCESSORY_SHARE = 0.45
"""Of the series of items that have an accessory of their own."""


@dataclass(frozen=True)
class Family:
    """A kind of item, as the TOML file describes it."""

    noun: str
    category: str
    code: str
    uses: tuple[str, ...]
    price: tuple[float, float]
    properties: tuple[Mapping[str, Any], ...]
    box: tuple[str, ...] = ()
    caution: tuple[str, ...] = ()
    aspects: tuple[Mapping[str, Any], ...] = ()
    tips: tuple[tuple[str, str], ...] = ()
    hygiene: bool = False
    is_accessory: bool = False


@dataclass
class Item:
    """One item of the catalogue. ``values``: property = number, or text of a choice."""

    item_id: str
    name: str
    brand: str
    series: str
    family: Family
    use: str
    tier: float
    price: Decimal
    values: dict[str, float | str]
    warranty_years: int
    fits: list[Item] = field(default_factory=list["Item"])
    """Of an accessory: the items that it works with; of an item: its accessories."""
    discontinued: bool = False
    reviews: list[Review] = field(default_factory=list["Review"])

    def shown(self, name: str, *, share: float = 1.0) -> str:
        """Return a property with its unit: "4.5 L". ``share`` of it: what a customer measured."""
        if name == "Price":
            return f"${self.price}"
        like = next(one for one in self.family.properties if one["name"] == name)
        value = self.values[name]
        return value if isinstance(value, str) else _with_unit(value * share, like, rough=share != 1.0)

    @property
    def properties(self) -> dict[str, str]:
        own = {like["name"]: self.shown(like["name"]) for like in self.family.properties}
        years = self.warranty_years
        return own | {"Warranty": f"{years} year" + ("s" if years > 1 else "")}

    @property
    def rating(self) -> float | None:
        """Mean of the stars of its reviews, to one decimal."""
        stars = [review.stars for review in self.reviews]
        return round(sum(stars) / len(stars), 1) if stars else None


@dataclass(frozen=True)
class Review:
    stars: int
    headline: str
    text: str
    written: date
    helpful: int
    verified: bool


@dataclass(frozen=True)
class Asked:
    """A question of the community about one item, with its answers."""

    item: Item
    question: str
    answers: tuple[str, ...]
    written: date
    helpful: int


@dataclass(frozen=True)
class Shop:
    seed: int
    items: tuple[Item, ...]
    community: tuple[Asked, ...]

    def stores(self) -> dict[str, Any]:
        """Return what the stores' system knows: ``stores``, ``items`` by id with price and stock, ``orders``.

        An item that is out of stock is so in each store, and only then orders of it wait as backorders.
        """
        states = {item.item_id: _stock(item, seed=self.seed) for item in self.items}
        return {
            "as_of": TODAY.isoformat(),
            "stores": [{"store_id": key, "name": name} for key, name in STORES.items()],
            "items": states,
            "orders": _orders(self.items, states, seed=self.seed),
        }


def make_shop(*, items: int = ITEMS, reviews: int = REVIEWS, seed: int = 1) -> Shop:
    """Return the shop. Raises ValueError for more items than names, and for fewer than one a family."""
    words = _words()
    families = words["family"]
    if items < len(families):
        raise ValueError(f"{items} items are fewer than the {len(families)} families; ask for more")
    made: list[Item] = []
    for at, raw in enumerate(families):
        share = items // len(families) + (at < items % len(families))
        made += _family_items(raw, share, words["brands"], _random(f"{seed}:{raw['code']}"))
    _add_reviews(made, reviews, seed=seed)
    community = [asked for item in made for asked in _asked_of(item, made, seed=seed)]
    return Shop(seed, tuple(made), tuple(community))


# --- items ------------------------------------------------------------------------------------------------
def _random(seed: str) -> Random:
    return Random(seed)  # noqa: S311 (made data, no secret)


@cache
def _words() -> dict[str, Any]:
    return tomllib.loads((HERE / "shop_families.toml").read_text(encoding="utf-8"))


def _family(raw: Mapping[str, Any]) -> Family:
    return Family(
        noun=raw["noun"],
        category=raw["category"],
        code=raw["code"],
        uses=tuple(raw["uses"]),
        price=tuple(raw["price"]),
        properties=tuple(raw["properties"]),
        box=tuple(raw["box"]),
        caution=tuple(raw["caution"]),
        aspects=tuple(raw["aspects"]),
        tips=tuple((ask, say) for ask, say in raw["tips"]),
        hygiene=raw.get("hygiene", False),
    )


def _accessory_family(raw: Mapping[str, Any]) -> Family:
    own = raw["accessory"]
    plain = {"name": "quality", "good": own["good"], "bad": own["bad"]}
    return Family(
        noun=own["noun"],
        category=f"Accessories for {raw['category'].lower()}",
        code=own["code"],
        uses=(raw["category"].lower(),),
        price=tuple(own["price"]),
        properties=tuple(own["properties"]),
        aspects=(plain,),
        hygiene=raw.get("hygiene", False),
        is_accessory=True,
    )


def _family_items(raw: Mapping[str, Any], count: int, brands: Sequence[str], rng: Random) -> Iterator[Item]:
    """Yield the items of a family, series by series: a series has up to three models, dearer ones later, and
    perhaps an accessory that fits all of them."""
    family, accessories = _family(raw), _accessory_family(raw) if "accessory" in raw else None
    series = [(brand, line) for brand in brands for line in raw["lines"]]
    rng.shuffle(series)
    for number, (brand, line) in enumerate(series, start=1):
        models: list[Item] = []
        start = rng.random() * 0.8
        for step in range(min(rng.choice((1, 2, 2, 3)), count)):
            tier = min(1.0, start + step * _STEP_BETWEEN_MODELS)
            name = f"{brand} {line} {100 * (1 + int(start * 6)) + 100 * step}"
            item_id = f"{family.code}-{1000 + 10 * number + step}"
            models.append(_item(item_id, name, brand, line, family, tier, rng))
        yield from models
        count -= len(models)
        if count > 0 and accessories is not None and rng.random() < _ACCESSORY_SHARE:
            name = f"{brand} {line} {raw['accessory']['title']}"
            extra = _item(
                f"{accessories.code}-{1000 + 10 * number}", name, brand, line, accessories, start, rng
            )
            extra.fits = models
            for model in models:
                model.fits.append(extra)
            yield extra
            count -= 1
        if count <= 0:
            return
    raise ValueError(f"there are not enough names for {count} more {family.category}; ask for fewer items")


def _item(item_id: str, name: str, brand: str, line: str, family: Family, tier: float, rng: Random) -> Item:
    low, high = family.price
    price = low + (high - low) * min(1.0, max(0.0, 0.8 * tier + 0.25 * (rng.random() - 0.3)))
    return Item(
        item_id=item_id,
        name=name,
        brand=brand,
        series=f"{brand} {line}",
        family=family,
        use=rng.choice(family.uses),
        tier=tier,
        price=Decimal(int(price)) + Decimal(rng.choice(("0.00", "0.49", "0.90", "0.99"))),
        values={like["name"]: _value(like, tier, rng) for like in family.properties},
        warranty_years=rng.choice((1, 2, 2, 3, 5)),
        discontinued=rng.random() < _DISCONTINUED,
    )


def _value(like: Mapping[str, Any], tier: float, rng: Random) -> float | str:
    """Return a value of the property: dearer items have more of it with ``tier`` 1, less with -1."""
    if "choices" in like:
        return rng.choice(like["choices"])
    follows = {1: tier, 0: rng.random(), -1: 1.0 - tier}[like["tier"]]
    place = min(1.0, max(0.0, 0.65 * follows + 0.35 * rng.random()))
    steps = round(place * (like["high"] - like["low"]) / like["step"])
    return round(like["low"] + steps * like["step"], 3)


def _with_unit(value: float, like: Mapping[str, Any], *, rough: bool = False) -> str:
    if rough:
        value = max(like["step"], round(value / like["step"]) * like["step"])
    number, unit = f"{round(value, 3):g}", like["unit"]
    if value >= 10_000:
        number = f"{int(value):,}"
    if value == 1 and len(unit) > 1 and unit.endswith("s"):
        unit = unit[:-1]
    return f"{like.get('prefix', '')}{number} {unit}"


# --- reviews ----------------------------------------------------------------------------------------------
def _add_reviews(items: Sequence[Item], count: int, *, seed: int) -> None:
    """Give each item its reviews, popular items more; no two have the same text."""
    rng = _random(f"{seed}:reviews")
    popularity = [0.15 + rng.random() ** 2 for _ in items]
    counts = [min(2, count // len(items))] * len(items)
    for at in rng.choices(range(len(items)), weights=popularity, k=count - sum(counts)):
        counts[at if counts[at] < MOST_REVIEWS else rng.randrange(len(items))] += 1
    seen: set[str] = set()
    for item, wanted in zip(items, counts, strict=True):
        own = _random(f"{seed}:{item.item_id}:reviews")
        chances = _chances(item, own)
        while len(item.reviews) < wanted:
            review = _review(item, chances, own)
            if review.text not in seen:
                seen.add(review.text)
                item.reviews.append(review)


def _place(item: Item, aspect: Mapping[str, Any]) -> float | None:
    """Return how good the item is by the aspect's property, 0 to 1; None for an aspect without one."""
    if "property" not in aspect:
        return None
    like = next(one for one in item.family.properties if one["name"] == aspect["property"])
    place = (float(item.values[like["name"]]) - like["low"]) / (like["high"] - like["low"])
    return place if aspect["best"] == "high" else 1.0 - place


def _chances(item: Item, rng: Random) -> list[float]:
    """Return per aspect how likely a review praises it: never certain, so that opinions differ."""
    places = [_place(item, aspect) for aspect in item.family.aspects]
    own = [(rng.random() + rng.random()) / 2 for _ in (*places, *_words()["aspect"])]
    known = [*places, *[None] * len(_words()["aspect"])]
    return [
        0.12 + 0.76 * (chance if place is None else place) for place, chance in zip(known, own, strict=True)
    ]


def _review(item: Item, chances: Sequence[float], rng: Random) -> Review:
    words = _words()["wording"]
    aspects = [*item.family.aspects, *_words()["aspect"]]
    weights = [3.0] * len(item.family.aspects) + [0.6] * len(_words()["aspect"])
    chosen: list[int] = []
    while len(chosen) < min(len(aspects), rng.choice((1, 2, 2, 3))):
        at = rng.choices(range(len(aspects)), weights=weights)[0]
        chosen += [at] if at not in chosen else []
    praised = [rng.random() < chances[at] for at in chosen]
    stars = _stars(praised, rng)
    openers = [one for one in words["openers"] if not (item.family.is_accessory and "{use}" in one)]
    sentences = [_filled(rng.choice(openers), item, rng)]
    for place, (at, good) in enumerate(zip(chosen, praised, strict=True)):
        joint = "" if place == 0 else rng.choice(words["and" if good == praised[place - 1] else "but"])
        sentences.append(_joined(joint, _opinion(item, aspects[at], good=good, rng=rng)))
    mood = "good" if stars >= 4 else "bad" if stars <= 2 else "mixed"
    sentences.append(rng.choice(words[f"closers_{mood}"]))
    return Review(
        stars=stars,
        headline=rng.choice(words[f"headlines_{mood}"]),
        text=" ".join(filter(None, sentences)),
        written=_FIRST_REVIEW + timedelta(days=rng.randrange(_DAYS_OF_REVIEWS)),
        helpful=int(rng.random() ** 4 * 60),
        verified=rng.random() < 0.85,
    )


def _stars(praised: Sequence[bool], rng: Random) -> int:
    share = sum(praised) / len(praised)
    if share == 1.0:
        return rng.choice((4, 5, 5))
    if share == 0.0:
        return rng.choice((1, 1, 2))
    return rng.choice((3, 4)) if share > 0.5 else rng.choice((2, 3)) if share < 0.5 else rng.choice((2, 3, 4))


def _opinion(item: Item, aspect: Mapping[str, Any], *, good: bool, rng: Random) -> str:
    """Return a sentence on an aspect. Praise that names a low value, and blame that names a good one, is left
    out."""
    place = _place(item, aspect)
    fits = place is None or (place > 0.45 if good else place < 0.55)
    said = [one for one in aspect["good" if good else "bad"] if fits or "{" not in one]
    return _filled(rng.choice(said), item, rng)


def _filled(sentence: str, item: Item, rng: Random) -> str:
    own = {
        "use": item.use,
        "noun": item.family.noun,
        "n": str(rng.randint(2, 11)),
        "Price": item.shown("Price"),
    }
    for like in item.family.properties:
        name = like["name"]
        own[name] = item.shown(name)
        own[f"~{name}"] = item.shown(name, share=rng.choice((0.8, 0.85, 0.9, 0.95)))
        if own[f"~{name}"] == own[name] and f"{{{name}}}" in sentence:  # it says that they differ
            own[f"~{name}"] = item.shown(name, share=0.75)
    return sentence.format_map(own)


def _joined(joint: str, sentence: str) -> str:
    if not joint:
        return sentence
    keeps = sentence.split(maxsplit=1)[0].rstrip(",") == "I"
    return f"{joint} {sentence if keeps else sentence[0].lower() + sentence[1:]}"


# --- community --------------------------------------------------------------------------------------------
def _asked_of(item: Item, items: Sequence[Item], *, seed: int) -> Iterator[Asked]:
    """Yield one to three questions about an item; the answers agree with its properties."""
    rng = _random(f"{seed}:{item.item_id}:community")
    rivals = [one for one in items if one.family == item.family and one is not item]
    of_category = item.family.category.lower()
    extras = [one for one in items if one.family.category == f"Accessories for {of_category}"]
    makers = ["property"] * 5 + ["tip"] * (2 * bool(item.family.tips))
    makers += ["fits"] * bool(extras) + ["differs"] * bool(rivals)
    seen: set[str] = set()
    for _ in range(rng.choice((1, 2, 2, 3))):
        match rng.choice(makers):
            case "tip":
                question, answer = rng.choice(item.family.tips)
                answers = [answer]
            case "fits":
                question, answers = _on_fitting(item, rng.choice(extras), rng)
            case "differs":
                question, answers = _on_difference(item, rng.choice(rivals), rng)
            case _:
                question, answers = _on_property(item, rng)
        if question not in seen:
            seen.add(question)
            day = _FIRST_REVIEW + timedelta(days=rng.randrange(_DAYS_OF_REVIEWS))
            yield Asked(item, question, tuple(answers), day, int(rng.random() ** 3 * 40))


def _on_property(item: Item, rng: Random) -> tuple[str, list[str]]:
    like = rng.choice(item.family.properties)
    value = item.shown(like["name"])
    said = [one.removeprefix(f"{value}: ") for one in like["say"] if not _is_of_other_choice(one, value)]
    first = rng.choice(said)
    return rng.choice(like["ask"]), [first.format(value=value), *_asides(item, like["name"], rng)]


def _is_of_other_choice(said: str, value: str) -> bool:
    return said.startswith(("yes: ", "no: ")) and not said.startswith(f"{value}: ")


def _asides(item: Item, name: str, rng: Random) -> list[str]:
    """Return what another customer adds about the same property, or nothing."""
    aspect = next((one for one in item.family.aspects if one.get("property") == name), None)
    if aspect is None or rng.random() < 0.4:
        return []
    place = _place(item, aspect) or 0.0
    return [_opinion(item, aspect, good=rng.random() < place, rng=rng)]


def _on_fitting(item: Item, extra: Item, rng: Random) -> tuple[str, list[str]]:
    words = _words()["wording"]
    own = {"name": item.name, "accessory": extra.name, "other": extra.series}
    does = item in extra.fits
    answers = [rng.choice(words["fits" if does else "fits_not"]).format_map(own)]
    if not does and item.fits:
        answers.append(f"For the {item.name} take the {item.fits[0].name}.")
    return rng.choice(words["fits_asked"]).format_map(own), answers


def _on_difference(item: Item, rival: Item, rng: Random) -> tuple[str, list[str]]:
    question = rng.choice(_words()["wording"]["differs_asked"]).format(name=item.name, other=rival.name)
    names = [like["name"] for like in item.family.properties]
    differing = [name for name in names if item.values[name] != rival.values[name]]
    rng.shuffle(differing)
    lines = [
        f"{name}: {item.shown(name)} for the {item.name}, {rival.shown(name)} for the {rival.name}."
        for name in differing[:3]
    ]
    cheaper = min(item, rival, key=lambda one: one.price)
    apart = abs(item.price - rival.price)
    if apart:
        lines.append(f"The {cheaper.name} is ${apart} cheaper.")
    return question, [" ".join(lines) or "They differ only in their looks."]


# --- documents --------------------------------------------------------------------------------------------
def documents(shop: Shop) -> dict[str, list[dict[str, Any]]]:
    """Return the lines of each source: ``catalogue``, ``reviews``, ``community``, ``help``."""
    return {
        "catalogue": [_catalogue_line(item, shop.items) for item in shop.items],
        "reviews": [
            _review_line(item, n, one) for item in shop.items for n, one in enumerate(item.reviews, 1)
        ],
        "community": list(_community_lines(shop)),
        "help": [_help_line(page, shop) for page in _words()["help"]],
    }


def _catalogue_line(item: Item, items: Sequence[Item]) -> dict[str, Any]:
    rng = _random(item.item_id)
    intro = rng.choice(_words()["wording"]["intros"])
    noun = _with_article(item.family.noun)
    intro = intro.format(name=item.name, brand=item.brand, noun=noun, use=item.use)
    facts = {"Item number": item.item_id, "Category": item.family.category, "Price": item.shown("Price")}
    if item.rating is not None:
        many = len(item.reviews)
        facts["Rating"] = f"{item.rating} of 5 from {many} review" + ("s" if many > 1 else "")
    facts |= item.properties
    if item.family.box:
        facts["In the box"] = ", ".join(item.family.box)
    names = ", ".join(one.name for one in item.fits)
    facts |= {"Fits" if item.family.is_accessory else "Works with": names} if names else {}
    facts["Returns"] = "45 days, with the seal unbroken" if item.family.hygiene else "45 days"
    if item.discontinued:
        facts["Discontinued"] = _successor(item, items)
    lines = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    caution = " ".join(item.family.caution)
    return {
        "id": item.item_id,
        "title": item.name,
        "markdown": "\n\n".join(filter(None, (intro[0].upper() + intro[1:], lines, caution))),
        "source": "Catalogue",
        "type": "item",
        "effective_date": TODAY.isoformat(),
        "item": {
            "item_id": item.item_id,
            "category": item.family.category,
            "brand": item.brand,
            "price": str(item.price),
            "currency": CURRENCY,
            "properties": {name: value for name, value in facts.items() if name not in _FIELDS},
            **({} if item.rating is None else {"rating": item.rating}),
            "ratings": len(item.reviews),
        },
    }


def _with_article(noun: str) -> str:
    """Return "an air purifier", "a kettle", "brush heads"."""
    if noun.endswith("s"):
        return noun
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


_FIELDS = ("Item number", "Category", "Price", "Rating")
"""Facts that have a field of their own."""


def _successor(item: Item, items: Sequence[Item]) -> str:
    same = [
        one
        for one in items
        if one.family == item.family and one.series == item.series and not one.discontinued
    ]
    return f"no longer made; successor: {same[-1].name}" if same else "no longer made"


def _review_line(item: Item, number: int, review: Review) -> dict[str, Any]:
    return {
        "id": f"{item.item_id}-r{number}",
        "title": f"{item.name}: {review.headline}",
        "text": review.text,
        "source": "Reviews",
        "type": "review",
        "effective_date": review.written.isoformat(),
        "item": {
            "item_id": item.item_id,
            "rating": review.stars,
            "helpful_votes": review.helpful,
            "verified": review.verified,
        },
    }


def _community_lines(shop: Shop) -> Iterator[dict[str, Any]]:
    counts: dict[str, int] = {}
    for asked in shop.community:
        item_id = asked.item.item_id
        number = counts[item_id] = counts.get(item_id, 0) + 1
        yield {
            "id": f"{item_id}-q{number}",
            "title": f"{asked.item.name}: {asked.question}",
            "question": asked.question,
            "answer": "\n\n".join(asked.answers),
            "source": "Community",
            "type": "answer",
            "effective_date": asked.written.isoformat(),
            "item": {"item_id": item_id, "helpful_votes": asked.helpful},
        }


def _help_line(page: Mapping[str, Any], shop: Shop) -> dict[str, Any]:
    hygiene = sorted({item.family.category.lower() for item in shop.items if item.family.hygiene})
    text = page["text"].replace("{hygiene}", ", ".join(hygiene))
    return {
        "id": page["id"],
        "title": page["title"],
        "markdown": text.replace("\n", "\n\n").replace("Steps:\n\n", "Steps:\n"),
        "source": "Help",
        "type": "page",
        "effective_date": TODAY.isoformat(),
        "questions": page["questions"],
    }


# --- stores -----------------------------------------------------------------------------------------------
def _stock(item: Item, *, seed: int) -> dict[str, Any]:
    rng = _random(f"{seed}:{item.item_id}:stock")
    gone = item.discontinued or rng.random() < _OUT_OF_STOCK
    stock = {store: 0 if gone else rng.choice((0, 0, 1, 2, 4, 9)) for store in STORES}
    if not gone:
        stock["warehouse"] = rng.randint(3, 240)
    restock = TODAY + timedelta(days=rng.randint(4, 40)) if gone and not item.discontinued else None
    return {
        "name": item.name,
        "price": str(item.price),
        "currency": CURRENCY,
        "state": "discontinued" if item.discontinued else "out_of_stock" if gone else "in_stock",
        "stock": stock,
        "restock_date": restock.isoformat() if restock else None,
    }


_STATES = ("placed", "packed", "shipped", "delivered", "delivered", "delivered", "returned", "cancelled")
_DAYS_AGO = {
    "placed": (0, 1),
    "packed": (1, 2),
    "shipped": (2, 6),
    "delivered": (5, 90),
    "returned": (20, 120),
}


def _orders(
    items: Sequence[Item], states: Mapping[str, Mapping[str, Any]], *, seed: int
) -> list[dict[str, Any]]:
    """Return about 1.5 orders an item, of one to three items each."""
    rng = _random(f"{seed}:orders")
    orders: list[dict[str, Any]] = []
    for number in range(int(len(items) * 1.5)):
        ordered = rng.sample(items, k=min(rng.choice((1, 1, 2, 3)), len(items)))
        missing = [item for item in ordered if states[item.item_id]["state"] == "out_of_stock"]
        gone = any(item.discontinued for item in ordered)
        status = "delivered" if gone else "backordered" if missing else rng.choice(_STATES)
        low, high = _DAYS_AGO.get(status, (3, 25))
        placed = TODAY - timedelta(days=rng.randint(low, high) + (200 if gone else 0))
        dates = [states[item.item_id]["restock_date"] for item in missing]
        orders.append(
            {
                "order_id": f"{4100 + number // 100:04d}-{1000 + 37 * number % 9000:04d}",
                "customer_id": f"C-{2000 + rng.randrange(len(items))}",
                "placed_on": placed.isoformat(),
                "status": status,
                "lines": [
                    {"item_id": one.item_id, "name": one.name, "quantity": 1, "price": str(one.price)}
                    for one in ordered
                ],
                "total": str(sum((one.price for one in ordered), Decimal())),
                "currency": CURRENCY,
                "delivery_date": _delivery(status, placed, rng),
                "expected_date": max(dates) if status == "backordered" else None,
            }
        )
    return orders


def _delivery(status: str, placed: date, rng: Random) -> str | None:
    """Return the day of delivery: past for what was delivered, ahead for what was sent."""
    if status in ("delivered", "returned"):
        return (placed + timedelta(days=rng.randint(3, 5))).isoformat()
    return (TODAY + timedelta(days=rng.randint(1, 4))).isoformat() if status == "shipped" else None


# --- files ------------------------------------------------------------------------------------------------
def write(shop: Shop, folder: Path) -> dict[str, int]:
    """Write ``<source>.jsonl`` for each source into the folder; return bytes by name."""
    folder.mkdir(parents=True, exist_ok=True)
    sizes: dict[str, int] = {}
    for name, lines in documents(shop).items():
        body = b"".join(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE) for line in lines)
        (folder / f"{name}.jsonl").write_bytes(body)
        sizes[f"{name}.jsonl"] = len(body)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=ITEMS)
    parser.add_argument("--reviews", type=int, default=REVIEWS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=FOLDER, help="folder of the .jsonl files")
    parser.add_argument("--stores", type=Path, help="write what the stores know to this JSON file, too")
    given = parser.parse_args()
    shop = make_shop(items=given.items, reviews=given.reviews, seed=given.seed)
    for name, size in write(shop, given.out).items():
        print(f"{name}: {size:,} bytes")
    if given.stores is not None:
        given.stores.write_bytes(orjson.dumps(shop.stores(), option=orjson.OPT_INDENT_2))


if __name__ == "__main__":
    main()
