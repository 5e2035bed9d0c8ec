"""Judges the support check: right sentences of a model, and the same sentences made wrong.

Right sentences are those of ``evaluation/support`` (by hand), and those of the right answers of
``evaluation/recorded``, whose prompts the answer path makes again. Each is checked as it stands and with one
thing changed.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from pydantic import AliasChoices, ConfigDict, Field

from assistant.answering.services import TenantServices
from assistant.answering.support import Checked, SupportChecker
from assistant.domain.answers import Support
from assistant.domain.errors import ConfigurationError
from assistant.domain.public import PublicModel
from assistant.evaluation.judging import holds_all, normal
from assistant.evaluation.measures import Judged
from assistant.evaluation.questions import Split, load_questions, load_rows, split_of
from assistant.evaluation.written import WrittenAnswers, WrittenModel
from assistant.knowledge.files import SourceDocument, read_sources
from assistant.knowledge.parsing import parse_document
from assistant.recorded_model import prompt_sha256, read_recording
from assistant.text.language import language, split_sentences

ENGLISH = language("en")
_OTHERS = 3
"""Documents of a prompt beside the one that the sentence is about: those that share most words with it."""

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


# Cases


class WrittenSentence(PublicModel):
    """One line of ``evaluation/support/*.jsonl``: a sentence, and the units of the document that it cites."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    tenant: str
    document_id: str
    sentence: str = Field(validation_alias=AliasChoices("sentence", "claim"))
    units: tuple[str, ...] | None = None
    unit: str = ""


@cache
def _documents(knowledge: Path) -> dict[str, Units]:
    """Return the units of each document of a folder with title and headings, as a prompt has them."""
    return {
        item.document.document_id: tuple(
            "\n".join(filter(None, (item.document.title, unit.heading, unit.text)))
            for unit in parse_document(item.document).units
        )
        for item in read_sources([knowledge])
        if isinstance(item, SourceDocument)
    }


@cache
def _stems(knowledge: Path) -> dict[str, frozenset[str]]:
    return {name: ENGLISH.content_stems(" ".join(units)) for name, units in _documents(knowledge).items()}


@cache
def _prompt(knowledge: Path, document_id: str) -> tuple[Units, ...]:
    stems = _stems(knowledge)
    others = sorted(
        (name for name in stems if name != document_id),
        key=lambda name: (-len(stems[name] & stems[document_id]) / len(stems[name]) ** 0.5, name),
    )
    return tuple(_documents(knowledge)[name] for name in (document_id, *others[:_OTHERS]))


def by_hand(path: Path, *, knowledge: Path) -> list[Case]:
    """Return the cases of a file of sentences; ``knowledge``: the folder of the tenants' documents.

    Raises ConfigurationError naming the line.
    """
    cases: list[Case] = []
    for line in load_rows(path, WrittenSentence):
        documents = _prompt(knowledge / line.tenant, line.document_id)
        wanted = (line.unit,) if line.units is None else line.units
        cited = tuple((1, _nearest(text, documents[0])) for text in wanted) or ((1, None),)
        cases.append(Case(line.id, line.document_id, documents, (), line.sentence, cited))
    return cases


def _nearest(text: str, units: Units) -> int:
    """Return the number of the unit with a text; of the likest one where the document has changed since."""
    stems = ENGLISH.content_stems(text)
    shared = [(unit.endswith(text), len(stems & ENGLISH.content_stems(unit))) for unit in units]
    return shared.index(max(shared)) + 1


_MARKERS = re.compile(r"\[([\d.,;\s]+)\]")


async def recorded(services: TenantServices, questions: Path, recording: Path) -> list[Case]:
    """Return the sentences of a tenant's recorded answers that hold every string of the right answer.

    The answer path makes each prompt again. Raises ConfigurationError where one is not that of the recording.
    """
    lines = read_recording([recording])
    asked = {one.qid: one for one in load_questions(questions)}
    cases: list[Case] = []
    written = WrittenAnswers(services, WrittenModel.of_recording(lines))
    for line in (one for one in lines if one.task == "answer"):
        question = asked[line.id]
        before = asked[question.after].question if question.after else None
        prepared = await written.prepare(question, before=before)
        prompt = prepared.prompt
        if prompt is None or prompt_sha256(prompt.messages) != line.prompt_sha256:
            raise ConfigurationError(f"{line.id}: its prompt has changed since the recording. Record again.")
        if question.answerable and holds_all(normal(line.answer), question.answer_contains):
            documents = tuple(one.unit_texts for one in prompt.documents)
            cases += cited_sentences(
                Case(line.id, question.document, documents, prepared.given, line.answer, ())
            )
    return cases


def cited_sentences(answer: Case) -> Iterator[Case]:
    """Yield the sentences of a whole answer that cite units, as a model writes it: [2.4] or [2]."""
    for span in split_sentences(answer.sentence):
        places = [place for found in _MARKERS.findall(span.text) for place in re.split(r"[,;]\s*", found)]
        if places:
            yield answer._replace(
                name=f"{answer.name}@{span.start}",
                sentence=_MARKERS.sub("", span.text),
                citations=tuple(map(_place, places)),
            )


def _place(marker: str) -> Citation:
    document, _, unit = marker.strip().partition(".")
    return int(document), int(unit) if unit else None


# Swaps. Their words are not the checker's: each stands for what a model may get wrong.


_NUMBER = re.compile(r"(?<![\w.,-])[1-9][\d,.]*(?<![,.])(?![\w-]|\.\d)")
_INNER_NAME = re.compile(r"(?<=[a-z,] )[A-Z][a-z]{3,}\b")


@cache
def _numbers(text: str) -> frozenset[str]:
    return frozenset(_NUMBER.findall(text))


@cache
def _names(text: str) -> frozenset[str]:
    return frozenset(name for name in _INNER_NAME.findall(text) if not ENGLISH.is_common(name.lower()))


def swaps(case: Case, *, elsewhere: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, sentence) with one thing changed. ``elsewhere``: texts of documents of other prompts."""
    chance = random.Random(case.name)  # noqa: S311 - a seeded choice, no secret
    prompt = "\n".join(chain(case.given, *case.documents))
    here = "\n".join(case.documents[case.citations[0][0] - 1])
    spoken = _numbers(case.sentence)
    item = re.match(r"\s*\d+\. ", case.sentence)
    for kind, texts in (("value from elsewhere", elsewhere), ("value of the document", (here,))):
        held = _numbers(prompt) if texts != (here,) else frozenset[str]()
        numbers = sorted(frozenset[str]().union(*map(_numbers, texts)) - held - spoken)
        found = list(_NUMBER.finditer(case.sentence, item.end() if item else 0))
        if found and numbers:
            yield kind, _replaced(case.sentence, chance.choice(found), chance.choice(numbers))
    names = [
        found for found in _INNER_NAME.finditer(case.sentence) if not ENGLISH.is_common(found[0].lower())
    ]
    others = sorted(
        name for name in frozenset[str]().union(*map(_names, elsewhere)) if name.lower() not in prompt.lower()
    )
    if names and others:
        yield "name from elsewhere", _replaced(case.sentence, chance.choice(names), chance.choice(others))
    for kind, changes in (("negation", _NEGATION), ("condition", _CONDITION)):
        made = [
            _replaced(case.sentence, found, found.expand(by))
            for pattern, by in changes
            for found in [re.search(pattern, case.sentence)]
            if found
        ]
        dropped = made if kind == "condition" else made[:1]
        for sentence in chance.sample(dropped, min(2, len(dropped))):
            yield kind, sentence[:1].upper() + sentence[1:]


def _replaced(sentence: str, found: re.Match[str], by: str) -> str:
    return sentence[: found.start()] + by + sentence[found.end() :]


_NEGATION: Sequence[tuple[str, str]] = (
    (r"\b([Cc]an|[Cc]ould|[Dd]oe?s?|[Ii]s|[Aa]re|[Ss]hould|[Mm]ust|[Ww]ill|[Hh]as)(?:n't| ?not)\b", r"\1"),
    (r"\b[Dd]on't\b ?", ""),
    (r"\b(?:[Cc]an't)\b", "can"),
    (r"\b[Nn]ever\b", "always"),
    (r"\b[Nn]either (.+?) nor\b", r"both \1 and"),
    (r"\bnot(?! (?:only|just))\b ?", ""),
    (r"\bwithout\b", "with"),
    (r"\b[Nn]o (?!more|later|less)", "a "),
    (
        r"\b([Cc]an|[Cc]ould|[Mm]ust|[Ss]hould|[Mm]ay|[Ww]ill|[Ii]s|[Aa]re)\b(?! (?:be )?(?:only|at least))",
        r"\1 not",
    ),
    (r"\b(?:has|have) to\b", "does not have to"),
    (r"\b(requires?|needs?|covers?|pays?|allows?|costs?|takes?)\b", r"does not \1"),
    (
        r"\A(Call|Send|Use|Ask|Tell|Check|Transfer|Complete|Let|Give|Get|Have|Escalate|Aim|Bill|Phone)\b",
        r"Do not \1",
    ),
)
_CONDITION: Sequence[tuple[str, str]] = (
    (r"\b([Ii])f\b", r"unless"),
    (r"\b[Uu]nless\b", "if"),
    (r"\b[Bb]efore\b", "after"),
    (r"\b[Aa]fter\b", "before"),
    (r"\b[Uu]ntil\b", "after"),
    (r"\b[Aa]t least\b|\ba minimum of\b", "at most"),
    (r"\bat most\b|\bup to\b|\bno more than\b|\bno later than\b|\bwithin\b", "at least"),
    (r"\bmore than\b|\bover\b(?= \d)", "less than"),
    (r"\b(?:less|fewer|younger) than\b|\bunder\b(?= \d)", "more than"),
    (r"\b[Oo]nly ", ""),
    (r"\A(?:If|When|Once|Unless|Before|Outside|For)\b[^,;]*, ", ""),
    (r",? (?:if|when|unless|until|once|before|except|after)\b[^,.;]*(?=[,.;])", ""),
)  # fmt: skip


# Figures


def samples(cases: Sequence[Case]) -> Iterator[tuple[str, Case]]:
    """Yield every sentence to be checked by its kind: "right", each swap, and one that cites another unit."""
    texts = {case.group: "\n".join(chain.from_iterable(case.documents)) for case in cases}
    for case in cases:
        yield "right", case
        elsewhere = [text for group, text in texts.items() if group != case.group]
        for kind, sentence in swaps(case, elsewhere=elsewhere):
            yield kind, case._replace(sentence=sentence)
        units = case.documents[case.citations[0][0] - 1]
        chance = random.Random(case.name)  # noqa: S311 - a seeded choice, no secret
        yield (
            "other unit cited",
            case._replace(citations=((case.citations[0][0], chance.randint(1, len(units))),)),
        )


def samples_by_hand(paths: Sequence[Path], *, knowledge: Path) -> list[tuple[str, Case]]:
    """Return the samples of files of sentences: right ones as they are and changed; the last holds wrong
    claims. Raises ConfigurationError naming file and line."""
    *right, wrong = (by_hand(path, knowledge=knowledge) for path in paths)
    return [*samples(list(chain.from_iterable(right))), *((WRONG_BY_HAND, case) for case in wrong)]


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


WRONG_BY_HAND = "wrong by hand"
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
    found: list[Judged] = []
    for number, (kind, case) in enumerate(rows):
        result = checked(case)
        values = {name: float(holds(result)) for name, holds in _MEASURES[kind].items()}
        miss = "" if all(values.values()) else f"{kind}: {result} | {case.sentence} | {case.cited}"
        found.append(Judged(f"{case.name} {number}", case.group, values, miss))
    return found
