"""Judges the support check by the sentences of ``evaluation/support``, right ones and wrong ones.

A right sentence was written by hand, or by the model of ``evaluation/recorded`` in a right answer. It is
checked as it stands, with one thing changed (a number, name, negation or condition), and citing another unit.
The files hold the changes: what a model may get wrong, in words that are not the checker's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pydantic import ConfigDict

from assistant.answer.support import Checked, SupportChecker
from assistant.documents.files import SourceDocument, read_sources
from assistant.documents.parsing import parse_document
from assistant.domain.answers import Support
from assistant.domain.public import PublicModel
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import Split, load_rows, split_of
from assistant.text.language import language

ENGLISH = language("en")

Units = tuple[str, ...]
Citation = tuple[int, int | None]


class Case(NamedTuple):
    """A sentence as a model wrote it, and the prompt that it was written from."""

    name: str
    group: str
    """The document that decides the half."""
    documents: tuple[Units, ...]
    given: tuple[str, ...]
    sentence: str
    citations: tuple[Citation, ...]

    @property
    def split(self) -> Split:
        return split_of(self.group)

    @property
    def cited(self) -> list[str]:
        places = ((self.documents[d - 1], u) for d, u in self.citations)
        return list(chain.from_iterable(units if u is None else units[u - 1 : u] for units, u in places))


class WrittenSentence(PublicModel):
    """One line of ``evaluation/support/*.jsonl``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant: str
    document_id: str
    """The document that decides the half."""
    prompt: tuple[str, ...]
    """Ids of the documents that the model was given."""
    given: tuple[str, ...] = ()
    """What else it was given: the question."""
    sentence: str
    cites: tuple[tuple[int, str | None], ...]
    """Number of the document in the prompt, from 1, and the end of the unit's text; None: all of it."""
    changed: tuple[tuple[str, int, int, str], ...] = ()
    """Kind of change, the characters (start, end) that are replaced, and by what."""
    other: tuple[int, str | None] | None = None
    """Another unit, which is cited in place of the right ones. A wrong sentence has none."""


@cache
def _documents(knowledge: Path) -> dict[str, Units]:
    """Return the units of each document of a folder with title and headings, as a prompt has them."""
    documents: dict[str, Units] = {}
    for item in read_sources([knowledge]):
        if isinstance(item, SourceDocument):
            title = item.document.title
            documents[item.document.document_id] = tuple(
                "\n".join((title, _below(title, unit.heading), unit.text))
                for unit in parse_document(item.document).units
            )
    return documents


def _below(title: str, heading: str) -> str:
    """Return a heading without the document's title."""
    return "" if heading == title else heading.removeprefix(f"{title} > ")


def _nearest(text: str, units: Units) -> int:
    """Return the number of the unit with a text; of the likest one where the document has changed since."""
    stems = ENGLISH.content_stems(text)
    shared = [(unit.endswith(text), len(stems & ENGLISH.content_stems(unit))) for unit in units]
    return shared.index(max(shared)) + 1


WRONG_BY_HAND = "wrong by hand"


def samples(paths: Iterable[Path], *, knowledge: Path) -> Iterator[tuple[str, Case]]:
    """Yield every sentence to be checked by its kind: "right", each change, another unit, "wrong by hand".

    ``knowledge``: the folder of the tenants' documents. Raises ConfigurationError naming file and line.
    """
    for line in chain.from_iterable(load_rows(path, WrittenSentence) for path in paths):
        units_of = _documents(knowledge / line.tenant)
        documents = tuple(units_of[name] for name in line.prompt)

        def place(number: int, text: str | None, documents: tuple[Units, ...] = documents) -> Citation:
            return number, None if text is None else _nearest(text, documents[number - 1])

        cites = tuple(place(*cite) for cite in line.cites)
        case = Case(line.id, line.document_id, documents, line.given, line.sentence, cites)
        yield WRONG_BY_HAND if line.other is None else "right", case
        for kind, start, end, by in line.changed:
            yield kind, case._replace(sentence=line.sentence[:start] + by + line.sentence[end:])
        if line.other is not None:
            yield "other unit cited", case._replace(citations=(place(*line.other),))


@cache
def _checker(documents: tuple[Units, ...], given: tuple[str, ...]) -> SupportChecker:
    return SupportChecker(documents, given=given, language=ENGLISH)


def checked(case: Case) -> Checked:
    return _checker(case.documents, case.given).check(case.sentence, case.citations)


def features(case: Case) -> Mapping[str, float]:
    """Return what the head of the check reads of a case."""
    return _checker(case.documents, case.given).features(case.sentence, case.cited)


def _shown(result: Checked) -> bool:
    return result.detail != "withheld"


def _supported(result: Checked) -> bool:
    return result.support is Support.SUPPORTED


_MEASURES: Mapping[str, Mapping[str, Callable[[Checked], bool]]] = {
    "right": {"right: shown": _shown, "right: supported": _supported},
    "value from elsewhere": {"value from elsewhere: withheld": lambda one: not _shown(one)},
    "value of the document": {"value of the document: not supported": lambda one: not _supported(one)},
    "name from elsewhere": {"name from elsewhere: withheld": lambda one: not _shown(one)},
    "negation": {"negation or condition: not supported": lambda one: not _supported(one)},
    "condition": {"negation or condition: not supported": lambda one: not _supported(one)},
    "other unit cited": {"other unit cited: not supported": lambda one: not _supported(one)},
    WRONG_BY_HAND: {"wrong by hand: not supported": lambda one: not _supported(one)},
}
"""What is counted of each kind of sample."""


def judged(rows: Iterable[tuple[str, Case]]) -> list[Judged]:
    """Check the samples; each counts under the document that its sentence is about."""
    judgements: list[Judged] = []
    for number, (kind, case) in enumerate(rows):
        result = checked(case)
        values = {name: float(holds(result)) for name, holds in _MEASURES[kind].items()}
        miss = "" if all(values.values()) else f"{kind}: {result} | {case.sentence} | {case.cited}"
        judgements.append(Judged(f"{case.name} {number}", case.group, values, miss))
    return judgements
