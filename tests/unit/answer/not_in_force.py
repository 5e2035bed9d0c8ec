"""Folders in which a document is not in force, and folders in which all are.

Each case is a folder of its own files. ``STRANGERS`` was written before the code that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Planted:
    """A folder with one document that is not in force on 30 November 2026."""

    name: str
    old: tuple[str, str]
    """Path and content of the document that is not in force."""
    question: str
    """Asks what holds now."""
    asked: str
    """Asks for the document by date, version or a word like "old"."""
    says: str
    """Words that only the document which is not in force has."""
    others: Mapping[str, str] = field(default_factory=dict[str, str])
    """Documents in force, by path."""
    now: str = ""
    """Words that answer what holds now; empty where nothing does."""


def page(title: str, text: str, **keys: str) -> str:
    """Return a Markdown file."""
    front = "".join(f"{key.replace('__', '-')}: {value}\n" for key, value in keys.items())
    return f"---\n{front}---\n# {title}\n\n{text}\n" if front else f"# {title}\n\n{text}\n"


STRANGERS = (
    Planted(
        "a folder called archive",
        (
            "policies/archive/visitor-badges.md",
            page("Visitor badges", "A lost visitor badge costs $10 at the desk."),
        ),
        "What does a lost visitor badge cost?",
        "What did a lost visitor badge cost under the old visitor badges page?",
        "$10",
        {"policies/visitor-badges.md": page("Visitor badges", "A lost visitor badge costs $25 at the desk.")},
    ),
    Planted(
        "fiscal years in names with blanks",
        ("Travel Allowance FY2024.md", page("Travel allowance", "The daily travel allowance is 48 dollars.")),
        "What is the daily travel allowance?",
        "What was the daily travel allowance in FY2024?",
        "48 dollars",
        {"Travel Allowance FY2026.md": page("Travel allowance", "The daily travel allowance is 61 dollars.")},
    ),
    Planted(
        "a season that has ended",
        (
            "hours/summer.md",
            page("Summer opening hours", "The pool opens at 06:30 in summer.", expires="2026-06-30"),
        ),
        "When does the pool open?",
        "When did the pool open in June 2026?",
        "06:30",
        {"hours/parking.md": page("Parking hours", "The parking deck opens at 07:00.")},
    ),
    Planted(
        "a status that says superseded",
        (
            "cold-storage.md",
            page(
                "Cold storage",
                "Keep vials at 2 to 6 degrees.",
                status="Superseded",
                superseded_by="cold-chain",
            ),
        ),
        "At how many degrees are vials kept?",
        "At how many degrees were vials kept by the superseded cold storage page?",
        "2 to 6",
        {"cold-chain.md": page("Cold chain", "Keep vials at 2 to 8 degrees, and log each hour.")},
    ),
    Planted(
        "next year's rates, a date in words",
        (
            "shipping-rates-2.md",
            page(
                "Shipping rates", "A small parcel costs 9 dollars.", **{"Effective From": "1 February 2027"}
            ),
        ),
        "What does a small parcel cost?",
        "What does a small parcel cost from February 2027?",
        "9 dollars",
        {"shipping-rates-1.md": page("Shipping rates today", "A small parcel costs 7 dollars.")},
    ),
    Planted(
        "versions of two digits",
        ("it/guest-wifi_v1.2.md", page("Guest wifi", "A guest code of the wifi lasts 12 hours.")),
        "How long does a guest code of the wifi last?",
        "How long did a guest code last in guest wifi v1.2?",
        "12 hours",
        {"it/guest-wifi_v1.10.md": page("Guest wifi", "A guest code of the wifi lasts 48 hours.")},
    ),
    Planted(
        "a draft in brackets",
        (
            "[DRAFT] Returns at lockers.md",
            page("[DRAFT] Returns at lockers", "Lockers take returns within 90 days."),
        ),
        "Within how many days do lockers take returns?",
        "Within how many days do lockers take returns by the draft?",
        "90 days",
        {"returns.md": page("Returns", "The desk takes returns within 30 days.")},
    ),
    Planted(
        "not published",
        ("bonus.md", page("Referral bonus", "The referral bonus is 900 dollars.", published="false")),
        "How high is the referral bonus?",
        "How high is the referral bonus in the unpublished page?",
        "900 dollars",
        {"salary.md": page("Salary days", "The salary is paid on the 25th.")},
    ),
    Planted(
        "a date before the name",
        (
            "2023-05-01 Parking rules.md",
            page("Parking rules", "Visitors may park for 2 hours behind the house."),
        ),
        "For how long may visitors park?",
        "For how long might visitors park in May 2023?",
        "2 hours",
        {
            "2025-05-01 Parking rules.md": page(
                "Parking rules", "Visitors may park for 4 hours behind the house."
            )
        },
    ),
    Planted(
        "a meta element of a web page",
        (
            "vouchers.html",
            "<html><head><title>Gift vouchers</title><meta name='expirationDate' content='2025-12-31'></head>"
            "<body><h1>Gift vouchers</h1><p>A gift voucher is worth 15 dollars.</p></body></html>",
        ),
        "What is a gift voucher worth?",
        "What was a gift voucher worth in 2025?",
        "15 dollars",
        {"cards.html": "<title>Cards</title><p>A card is plastic.</p>"},
    ),
)

STRANGERS_IN_FORCE: Mapping[str, str] = {
    "old-age-discount.md": page("Old age discount", "Guests above 65 pay half."),
    "how-to-archive-a-ticket.md": page("How to archive a ticket", "Press the box, then confirm."),
    "minutes-2025-10-07.md": page(
        "Minutes 2025-10-07", "Ana reports on the roof. The budget is approved. Next: May."
    ),
    "minutes-2025-11-04.md": page(
        "Minutes 2025-11-04", "Two candidates were heard; Paul wants a new printer."
    ),
    "w2-2024-corrections.md": page("W-2 2024 corrections", "Ask payroll for form W-2c."),
    "refunds.md": page("Refunds", "A refund takes 5 days.", status="published"),
    "uniforms.md": page("Uniforms", "Wear blue.", effective_date="2019-03-01"),
    "licence.md": page("Licence", "The licence covers two sites.", expires="2031-01-31"),
    "draft-beer-lines.md": page("Draft beer lines", "Flush the lines each Monday."),
    "version-control-for-labels.md": page("Version control for labels", "Write the number below the code."),
    "room-101.md": page("Room 101", "Room 101 has 12 seats."),
    "room-102.md": page("Room 102", "Room 102 has 12 seats."),
    "gold-plan-2026.md": page("Gold plan 2026", "The gold plan costs 40 dollars a month."),
    "silver-plan-2026.md": page("Silver plan 2026", "The silver plan costs 20 dollars a month."),
}


@dataclass(frozen=True, slots=True)
class Topic:
    """A rule of which two editions differ in a value."""

    name: str
    rule: str
    ask: str
    """What it asks about the present; "WHEN" is where a date or a version goes."""
    old: str
    new: str

    @property
    def slug(self) -> str:
        return self.name.replace(" ", "-")

    def text(self, value: str) -> str:
        return self.rule.replace("VALUE", value)

    def planted(
        self,
        shape: str,
        old: tuple[str, str],
        *others: tuple[str, str],
        when: str,
    ) -> Planted:
        """Return a case; ``others`` are in force."""
        return Planted(
            name=f"{shape}: {self.name}",
            old=old,
            question=self.ask.replace("WHEN", "").replace(" ?", "?"),
            asked=self.ask.replace("WHEN", when),
            says=self.text(self.old),
            others=dict(others),
            now=self.text(self.new),
        )


def shapes_of(topic: Topic) -> Iterator[Planted]:
    """Yield a case of each shape."""
    slug, title = topic.slug, topic.name.capitalize()
    old, new = topic.text(topic.old), topic.text(topic.new)
    present = (f"{slug}.md", page(title, new))

    def keyed(**keys: str) -> tuple[str, str]:
        return f"{slug}-x.md", page(f"{title} rule", old, **keys)

    yield topic.planted("begins", keyed(effective_date="2027-01-01"), present, when="from January 2027")
    yield topic.planted("begins, Hugo", keyed(publishDate="2027-03-01"), present, when="from March 2027")
    yield topic.planted("ended", keyed(expiryDate="2025-12-31"), present, when="in 2025")
    yield topic.planted(
        "ended, in words", keyed(valid_until='"31 March 2026"'), present, when="in March 2026"
    )
    yield topic.planted("draft", keyed(draft="true"), present, when="by the draft")
    yield topic.planted("state", keyed(state="archived"), present, when="by the archived page")
    yield topic.planted(
        "TOML",
        (f"{slug}-x.md", f'+++\ntitle = "{title} rule"\nvalid_until = 2026-02-28\n+++\n{old}\n'),
        present,
        when="in February 2026",
    )
    yield topic.planted("OLD", (f"OLD/{slug}.md", page(title, old)), present, when=f"by the old {topic.name}")
    yield topic.planted("archive", (f"archive/2023/{slug}.md", page(title, old)), present, when="in 2023")
    yield topic.planted(
        "versions",
        (f"{slug}-v1.md", page(title, old)),
        (f"{slug}-v2.md", page(title, new)),
        when="in v1",
    )
    yield topic.planted(
        "plain and v2",
        (f"{slug}.md", page(title, old)),
        (f"{slug}_v2.md", page(title, new)),
        when="in version 1",
    )
    yield topic.planted(
        "second of three",
        (f"a/{slug} rev 2.md", page(f"{title} rev 2", old)),
        (f"a/{slug} rev 3.md", page(f"{title} rev 3", new)),
        when="in rev 2",
    )
    yield topic.planted(
        "editions in titles",
        ("a.md", page(f"{title}, 2nd edition", old)),
        ("b.md", page(f"{title}, 3rd edition", new)),
        when="in the 2nd edition",
    )
    yield topic.planted(
        "years in names",
        (f"{slug}-2024.md", page(title, old)),
        (f"{slug}-2025.md", page(title, new)),
        when="in 2024",
    )
    yield topic.planted(
        "years in titles",
        ("one.md", page(f"{title} (2025)", old)),
        ("two.md", page(f"{title} (2026)", new)),
        when="in 2025",
    )
    yield topic.planted(
        "next year's",
        (f"{slug} 2027.md", page(title, old)),
        (f"{slug} 2026.md", page(title, new)),
        when="next year",
    )
    yield topic.planted(
        "folders of years",
        (f"2025/{slug}.md", page(title, old)),
        (f"2026/{slug}.md", page(title, new)),
        when="in 2025",
    )
    yield topic.planted(
        "days in names",
        (f"{slug} 2025-01-15.md", page(title, old)),
        (f"{slug} 2026-02-01.md", page(title, new)),
        when="on February 3, 2025",
    )
    yield topic.planted(
        "lines",
        (
            "rules.jsonl",
            f'{{"id": "{slug}-x", "title": "{title} rule", "text": "{old}", '
            '"metadata": {"valid_to": "2026-06-30"}}\n',
        ),
        present,
        when="in June 2026",
    )
    yield topic.planted(
        "a web page",
        (
            f"{slug}-x.html",
            f'<title>{title} rule</title><meta name="expires" content="30 June 2026"><p>{old}</p>',
        ),
        present,
        when="in June 2026",
    )


TOPICS = (
    Topic(
        "parking permit",
        "A parking permit costs VALUE dollars a month.",
        "What does a parking permit cost WHEN?",
        "20",
        "32",
    ),
    Topic(
        "refill limit",
        "The refill limit of a controlled medicine is VALUE days; the desk counts them from the first fill.",
        "How many days is the refill limit of a controlled medicine WHEN?",
        "14",
        "21",
    ),
)
GENERATED = tuple(planted for topic in TOPICS for planted in shapes_of(topic))

_PLACES = ("North", "South", "Harbor", "Airport", "Old Town")
GENERATED_IN_FORCE: Mapping[str, str] = {
    **{
        f"sites/{place.lower()}.md": page(f"{place} clinic", f"{place} opens at 0{n}:00.")
        for n, place in enumerate(_PLACES, 5)
    },
    **{f"rooms/room-{n}.md": page(f"Room {n}", f"Room {n} has {n} seats.") for n in range(4, 9)},
    **{
        f"minutes/2026-0{n}-12.md": page(f"Minutes of 2026-0{n}-12", text)
        for n, text in enumerate(
            (
                "Ana asks for a second fridge. The budget waits for the board.",
                "Two nurses start on Monday. Keys are at reception, says Paul.",
                "The roof leaks above lab four; a plumber comes. No fines.",
                "Training on insulin pumps went well. Next topic is wound care.",
                "Complaints fell by a third since queues have numbers.",
            ),
            start=1,
        )
    },
    **{f"forms/form-{n}.md": page(f"Form {n}", f"Fill in form {n} for a claim.") for n in (1095, 2848, 8962)},
    "hours/2026.md": page("Opening hours 2026", "We open at 08:00.", effective_date="2026-01-01"),
    "plans/bronze-2026.md": page("Bronze plan 2026", "The copay is 40 dollars."),
    "plans/silver-2026.md": page("Silver plan 2026", "The copay is 25 dollars."),
    "guides/diabetes-type-1.md": page("Diabetes type 1", "Insulin at each meal."),
    "guides/diabetes-type-2.md": page("Diabetes type 2", "Metformin first."),
    "guides/vitamin-b12.md": page("Vitamin B12", "Once a month."),
    "guides/expired-medicines.md": page("Expired medicines", "Bring expired medicines back."),
    "guides/previous-authorizations.md": page("Previous authorizations", "Ask the insurer for them."),
    "guides/authorizations.md": page("Authorizations", "They last for a year."),
    "guides/medicines.md": page("Medicines", "Keep them dry."),
    "guides/requests.md": page("Requests", "Answer within a day."),
    "guides/patients.md": page("Patients", "Ask for the date of birth."),
    "guides/outdated-browsers.md": page("Outdated browsers", "Update the browser first."),
    "guides/archive-requests.md": page("Archive requests", "Send form AR-1."),
    "guides/new-patients.md": page("New patients", "Come ten minutes early."),
    "guides/final-exams.md": page("Final exams", "Bring a photo id."),
    "guides/drafting-a-letter.md": page("Drafting a letter", "Begin with the date."),
    "policy.md": page("Privacy policy", "Never read a name aloud.", status="approved", version="3"),
    "recall-2025.md": page("Recall of lot 2025", "Lot 2025 is recalled."),
    "until.md": page("Loyalty points", "Points last a year.", valid_until="2027-12-31", owner="sales"),
    "published.md": page("Web shop", "Pay by card.", published="true", draft="false"),
    "since.md": page("Dress code", "Shoes are closed.", valid_from="2020-05-01", expires="never"),
}
