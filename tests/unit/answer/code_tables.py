"""Made-up lists of codes of five shapes, and questions for one code each, known or not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from assistant.documents.formats import convert
from assistant.domain.documents import StoredDocument
from tests.fakes.answering import document

SHAPES = ("hyphen", "zip", "letters", "dotted", "ndc", "strength")
_TITLES = {
    "hyphen": ("Fee schedule {}", "Procedure", "Fee"),
    "zip": ("Delivery areas {}", "Town", "Delivery day"),
    "letters": ("Billing codes {}", "Item", "Prior approval"),
    "dotted": ("Form revisions {}", "Form", "Valid for"),
    "ndc": ("Covered packages {}", "Package", "Tier"),
    "strength": ("Combination tablets {}", "Tablet", "Copay"),
}
"""Title of a list with the name of its half, and its columns beside the code."""
_QUESTIONS = (
    "What does the list say about {}?",
    "{value} for {}?",
    "Customer asks for {}, what is the {value}?",
    "hi, i have a member on the phone who wants to know about {} please, thanks",
    "[{}] {value}",
    "Is there an entry for code ({})?",
)
_WORDS = ("north", "amber", "sling", "brace", "willow", "cover", "visit", "kit", "plain", "large", "review")


@dataclass(frozen=True, slots=True)
class CodeQuestion:
    """A question for one code."""

    text: str
    written: str
    """The code as the question has it."""
    row: str | None
    """The code as its row has it; None where no row has it."""


def _code(shape: str, random: Random) -> str:
    number = random.randrange
    match shape:
        case "hyphen":
            return f"{random.choice(('QX', 'QX', 'RT'))}-{number(1000, 3000)}"
        case "zip":
            return f"{number(10000, 12500)}"
        case "letters":
            return f"{random.choice('AJGQ')}{number(3000, 4500):04}"
        case "dotted":
            return f"{number(1, 9)}.{number(10)}.{number(1, 40)}" + random.choice(("", f".{number(1, 9)}"))
        case "ndc":
            return f"{number(2, 9):04}-{number(8200, 8260)}-{number(1, 30):02}"
        case _:
            return f"{random.choice(('2.5', '5', '10', '12.5', '20'))}/{number(100, 999)}"


def codes(shape: str, count: int, random: Random) -> list[str]:
    """Return so many codes of a shape, each once."""
    made = dict[str, None]()
    while len(made) < count:
        made[_code(shape, random)] = None
    return list(made)


def lists(listed: dict[str, list[str]], random: Random) -> Iterator[StoredDocument]:
    """Yield two lists of each shape: the first half of its codes as CSV, the second as Markdown, where some
    codes stand in brackets behind a word."""
    for shape, own in listed.items():
        title, *columns = _TITLES[shape]
        half = len(own) // 2
        rows = [
            (code, f"{random.choice(_WORDS)} {random.choice(_WORDS)}", f"{random.randrange(5, 90)}")
            for code in own
        ]
        csv = "\n".join([",".join(("Code", *columns)), *(",".join(row) for row in rows[:half])])
        page = convert("list.csv", csv.encode()).to_bytes().decode()
        yield document(
            f"{shape}-csv", page, title=title.format("east"), media_type="application/vnd.page+json"
        )
        lines = [
            f"| {name} ({code}) | {value} |" if at % 3 == 0 else f"| {code} | {value} |"
            for at, (code, name, value) in enumerate(rows[half:])
        ]
        head = [f"# {title.format('west')}", "", f"| Entry | {columns[1]} |", "| --- | --- |"]
        text = "\n".join([*head, *lines, "", "Ask the desk where an entry is missing."])
        yield document(f"{shape}-md", text, title=title.format("west"))


def questions(
    listed: dict[str, list[str]], *, known: int, unknown: int, random: Random
) -> Iterator[CodeQuestion]:
    """Yield so many questions of each kind, the shapes in turn: as listed, in lower case, or with blanks for
    hyphens."""
    for at in range(known + unknown):
        shape = SHAPES[at % len(SHAPES)]
        own, is_known = listed[shape], at < known
        if is_known:
            code = random.choice(own)
        else:
            code = next(code for code in codes(shape, len(own) + 50, random) if code not in own)
        written = random.choice((code, code.lower(), code.replace("-", " ").lower()))
        value = random.choice((_TITLES[shape][2], _TITLES[shape][2].lower()))
        text = random.choice(_QUESTIONS).format(written, value=value)
        yield CodeQuestion(text, written, code if is_known else None)
