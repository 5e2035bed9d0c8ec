"""Which documents are in force on a day: by what their files say, and by other editions of them.

Editions are documents whose names are the same but for a version, a date or a word such as "old". Of
"Fees v1" and "Fees v2" the second replaces the first; of "Fees 2026" and "Fees 2027" it does so on 1 January.
Two with dates must have most of their words in common: minutes of two meetings are no editions.

What is not in force is found only by a question that asks for it (``EditionsAsked``).
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import islice, pairwise
from pathlib import PurePosixPath
from zlib import crc32

from assistant.domain.documents import DocumentCard, DocumentStatus, StoredDocument, id_prefix_of
from assistant.domain.in_force import InForce
from assistant.text.caches import remember_texts
from assistant.text.language import WORD, fold, letters_of, word_groups
from assistant.text.values import Span, spans_in

MOST_LEFT_OUT = 50_000
"""Most documents that a search leaves out: OpenSearch takes 65,536 terms."""
_SKETCH = 24
"""Words of a sketch."""
_FEWEST_LETTERS = 8
"""Letters of words that say in any text that days follow: "validuntil", and not "since"."""
_LEAST_ALIKE = 0.5
"""Share of the words of a sketch that two editions have in common."""
_WORDS = word_groups("in_force")
_MARKS = _WORDS["marks"]
_IN_BRACKETS = re.compile(rf"[\[(]\s*({'|'.join(sorted(_MARKS))})\s*[\])]")
_VERSION = re.compile(
    r"(?<![^\W_])(?:v|ver|version|rev|revision|edition)[ .]?(?P<number>\d+(?:\.\d+)*)(?![^\W_])"
    r"|\b(?P<nth>\d+)(?:st|nd|rd|th) (?:edition|version|revision)\b"
)
_OVER = ("state", "flag", "shown")
"""Kinds of keys that say by a value that a document is not in force."""
Version = tuple[int, ...]
_Dated = tuple[Version | None, Span | None]


def _letters(key: str) -> str:
    """Return "archived" of "is_archived", "validuntil" of "Valid until"."""
    return letters_of(key).removeprefix("is")


def says_in_force(key: str) -> bool:
    """Return whether ``read_in_force`` reads a key: "Valid until"."""
    return any(_letters(key) in _WORDS[kind] for kind in (*_OVER, "begins", "ends", "replaced"))


def names_days_in_force(text: str) -> bool:
    """Return whether a text has a day and words that say from or until when something is in force: "Prices
    valid from 1 May 2026", "Prices (until 31 March)"."""
    spans, rest = spans_in(text, today=date.min)
    words, letters = {*_WORDS["begins"], *_WORDS["ends"]}, letters_of(rest)
    is_alone = not words.isdisjoint(map(letters_of, re.split(r"[()\[\],;:\u2013]", rest)))
    return bool(spans) and (
        is_alone or any(word in letters for word in words if len(word) >= _FEWEST_LETTERS)
    )


def names_mark(text: str) -> bool:
    """Return whether a text begins with a word such as "DRAFT" in capitals, or has one in brackets."""
    first = next(iter(WORD.findall(text)), "")
    is_loud = first.isupper() and fold(first) in _MARKS
    return is_loud or _IN_BRACKETS.search(fold(text)) is not None


def says_state(key: str) -> bool:
    """Return whether a key says by a text or a switch that a document is in force, and by no day."""
    return any(_letters(key) in _WORDS[kind] for kind in _OVER)


def is_over(state: str) -> bool:
    """Return whether a state says that a document is not in force: "Archived"."""
    return letters_of(state) in _WORDS["state over"]


def read_in_force(
    metadata: Mapping[str, Sequence[str]], *, path: str, title: str, content: str
) -> InForce | None:
    """Return what a file's keys, its path in its source and its title say; None where they say nothing."""
    found: dict[str, object] = {}
    for key, values in metadata.items():
        name, text = _letters(key), fold(", ".join(values)).strip()
        spans, _ = spans_in(text)
        said = {text.split(" ")[0], _letters(text)}
        says = (name in _WORDS[kind] and not said.isdisjoint(_WORDS[f"{kind} over"]) for kind in _OVER)
        if spans and name in _WORDS["begins"]:
            found["since"] = spans[0][0]
        elif spans and name in _WORDS["ends"]:
            found["until"] = spans[0][1]
        elif any(says) or (text and name in _WORDS["replaced"]):
            found["never"] = f"{key}: {', '.join(values)}"[:200]
    names = _name_of(path, title)
    if names.is_sure:
        found.setdefault("never", names.mark)
    if names.span:
        words = {crc32(word.encode()) for word in WORD.findall(fold(content))}
        found["words"] = tuple(sorted(words)[:_SKETCH])
    return InForce.model_validate(found) if found else None


@dataclass(frozen=True, slots=True)
class _Name:
    """What the path and the title of a document say of its edition."""

    keys: Mapping[str, _Dated]
    """What its editions have in common: the folders, and the words of its file's name or of its title that
    are no version, date or mark; with the version and the date beside these words. A letterhead is the title
    of many documents: a year in the name of one's file does not make them its editions."""
    version: Version | None
    span: Span | None
    """A day before a month, and that before a year."""
    mark: str
    """Why it may be out of force: "old", "in the folder OLD"; empty without."""
    is_sure: bool
    """Whether the mark counts alone: of a folder, in capitals or in brackets; in a line of a file at its
    begin."""

    @classmethod
    def of(cls, path: str, title: str) -> _Name:
        """Return what the folders of a path and the two names below them say: "OLD/Fees v1"."""
        file = PurePosixPath(path)
        # a file of lines is one name for many documents, whose titles name things: "Tent (old)" is one
        is_of_lines = path.lower().endswith((".json", ".jsonl", ".jsonl.gz"))
        names = [title] if is_of_lines else [title, file.stem]
        marks, is_sure, dated = list[str](), False, list[_Dated]()
        keys = defaultdict[str, list[_Dated]](list)
        for name in names:
            written = f"{file.parent}/{name.replace('/', '-')}".replace("_", " ")
            spans, rest = spans_in(written)
            versions, folded = _versions_in(rest)
            *folders, words = (WORD.findall(part) for part in folded.split("/"))
            old = [folder[0] for folder in folders if folder and _MARKS.issuperset(folder)]
            in_name = WORD.findall(written.rpartition("/")[2])
            loud = [fold(word) for word in in_name if word.isupper() and not written.isupper()]
            sure = {*_IN_BRACKETS.findall(folded), *_MARKS.intersection(loud)}
            own = {*sure, *_WORDS["first"].intersection(words[:1]), *_WORDS["last"].intersection(words[-1:])}
            kept = [" ".join(folder) for folder in folders if not _MARKS.issuperset(folder)]
            shared = " ".join(word for word in words if word not in own)
            dated += [(next(iter(versions), None), next(iter(spans), None))]
            if shared:
                keys["/".join((*kept, shared))].append(dated[-1])
            marks += [*(f"in the folder {folder}" for folder in old), *sorted(own)]
            is_sure |= bool(old or (sure.intersection(words[:1]) if is_of_lines else sure))
        version, span = _dated(dated)
        by_key = {key: _dated(each) for key, each in keys.items()}
        return cls(by_key, version, span, mark=next(iter(marks), ""), is_sure=is_sure)


_name_of = remember_texts(2_000)(_Name.of)


def _dated(found: Iterable[_Dated]) -> _Dated:
    """Return the first version and the shortest span of several names."""
    found = [*found]
    spans = [span for _, span in found if span]
    version = next((version for version, _ in found if version), None)
    return version, min(spans, key=lambda span: span[1] - span[0], default=None)


def _versions_in(folded: str) -> tuple[list[Version], str]:
    """Return the versions that a text names, and the text without them."""
    numbers = [match["number"] or match["nth"] for match in _VERSION.finditer(folded)]
    return [tuple(map(int, number.split("."))) for number in numbers], _VERSION.sub(" ", folded)


@dataclass(frozen=True, slots=True)
class Edition:
    """When one document is in force."""

    known: DocumentStatus | DocumentCard
    name: _Name
    first: date | None
    """None: it is not known, and long ago."""
    last: date | None
    never: str
    heir: str = ""
    """Id of the next edition."""
    contrary: str = ""
    """Id of a document of the same name; neither replaces the other."""

    @classmethod
    def of(cls, known: DocumentStatus | DocumentCard) -> Edition:
        """Return what a document says itself."""
        path = known.origin or "" if isinstance(known, DocumentStatus) else ""
        said, name = known.in_force or InForce(), _name_of(path, known.title)
        return cls(known, name, said.since or known.effective_date, said.until, said.never)

    def under(self, key: str) -> Edition:
        """Return it with the version and the date that stand beside the words of a key of its name."""
        version, span = self.name.keys[key]
        return replace(self, name=replace(self.name, version=version, span=span))

    def holds(self, day: date) -> bool:
        return not self.never and (self.first or day) <= day <= (self.last or day)

    def is_open(self, labels: frozenset[str] | None) -> bool:
        """Return whether a reader with these labels (None: all) may know of it."""
        return labels is None or not self.known.labels or not labels.isdisjoint(self.known.labels)

    @property
    def is_plain(self) -> bool:
        """Whether it is in force on each day since it came, with nothing to tell its owner."""
        began = (self.first or date.min) <= self.known.updated_at.date()
        return began and not (self.never or self.last or self.contrary)

    @property
    def named_first(self) -> date | None:
        """The first day; the date of its name is one beside other editions."""
        return self.first or (self.name.span[0] if self.name.span else None)

    def is_like(self, other: Edition) -> bool:
        """Return whether both are editions of one document: by their versions; by most of the words of their
        sketches where both have a date; where one has, by that it is a year and not the day of a meeting."""
        if self.name.version != other.name.version:
            return True
        spans = [each.name.span for each in (self, other) if each.name.span]
        if len(spans) == 1:
            return spans[0][1] - spans[0][0] > timedelta(31)
        mine, its = ({*(each.known.in_force or InForce()).words} for each in (self, other))
        return len(mine & its) >= max(1, _LEAST_ALIKE * max(len(mine), len(its)))


def _beside_each_other(group: Sequence[Edition]) -> list[Edition]:
    """Return the documents of one name, each with when the next edition replaces it."""
    versions = {each.name.version for each in group}
    # Without a version it is the first one; beside a first one it is the newest.
    plain = None if versions == {None} else (10**9,) if (1,) in versions else (1,)
    group = [replace(each, name=replace(each.name, version=each.name.version or plain)) for each in group]
    living = sorted(filter(_lives, group), key=_order)
    for at, (before, after) in enumerate(pairwise(living)):
        if _order(before) == _order(after):
            living[at] = replace(living[at], contrary=after.known.document_id)
            living[at + 1] = replace(after, contrary=before.known.document_id)
        elif before.is_like(after):
            own_end = before.name.span[1] if before.name.span else None
            end = after.named_first - timedelta(1) if after.named_first else own_end
            living[at] = replace(
                living[at],
                first=before.named_first,
                last=min(filter(None, (end, before.last)), default=None),
                never="" if end else "an older edition",
                heir=after.known.document_id,
            )
            living[at + 1] = replace(after, first=after.named_first)
    if not living:
        return group
    newest = living[-1].known.document_id
    over = [replace(each, first=each.named_first, heir=newest) for each in group if not _lives(each)]
    return living + [replace(each, never=each.never or each.name.mark) for each in over]


def _lives(edition: Edition) -> bool:
    return not edition.name.mark and not edition.never


def _order(edition: Edition) -> tuple[Version, date]:
    """Return what sorts the editions of one name."""
    day = edition.name.span[0] if edition.name.span else date(edition.known.updated_at.year, 1, 1)
    return edition.name.version or (), day


class Editions:
    """The documents of a tenant of which it matters on which day they are in force, and how to ask for them.

    Example, with "Fees v1" and "Fees v2"::

        editions = Editions.of(statuses)
        EditionsAsked(editions, "How high is the fee?", today).left_out  # {"fees-v1"}
        EditionsAsked(editions, "How high was the fee in v1?", today).left_out  # set()
    """

    def __init__(self, known: Mapping[str, Edition] | None = None) -> None:
        self.known = known or {}

    @classmethod
    def of(cls, statuses: Iterable[DocumentStatus]) -> Editions:
        """Return the editions among documents that answer. Takes a second for thousands of one name."""
        known = {edition.known.document_id: edition for edition in map(Edition.of, statuses)}
        named: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for document_id, edition in known.items():
            for key in edition.name.keys:
                named[id_prefix_of(document_id), key].append(document_id)
        for (_, key), ids in named.items():
            group = [known[document_id].under(key) for document_id in ids]
            if any(each.name.version or each.name.span or each.name.mark for each in group):
                known |= {each.known.document_id: each for each in _beside_each_other(group)}
        heirs = {edition.heir for edition in known.values()}
        return cls({name: each for name, each in known.items() if name in heirs or not each.is_plain})

    def note(self, edition: Edition, day: date, *, labels: frozenset[str] | None) -> str:
        """Return why an edition is not in force on a day, and what replaces it, if the labels open that
        (None: all); "" for one in force."""
        if edition.holds(day):
            return ""
        heirs: list[Edition] = []
        while (heir := self.known.get((heirs or [edition])[-1].heir)) is not None and heir not in heirs:
            heirs.append(heir)
        titles = [each.known.title for each in heirs if each.holds(day) and each.is_open(labels)]
        valid = f" In force: {titles[0]}." if titles else ""
        if not edition.never and edition.first is not None and day < edition.first:
            return f"Not in force yet: from {edition.first}.{valid}"
        return f"Not in force: {edition.never or f'until {edition.last}'}.{valid}"

    def noted(
        self, status: DocumentStatus, day: date, *, labels: frozenset[str] | None = None
    ) -> DocumentStatus:
        """Return a status with what its owner, who has these labels (None: all), must know: that it is not in
        force, when it ends, or which document it may contradict."""
        edition = self.known.get(status.document_id) or Edition.of(status)
        note, contrary = self.note(edition, day, labels=labels), self.known.get(edition.contrary)
        if not note and contrary is not None and contrary.is_open(labels):
            note = f"May contradict: {contrary.known.title}."
        elif not note and edition.last is not None:
            note = f"In force until {edition.last}."
        return status.model_copy(update={"in_force_note": note})


class EditionsAsked:
    """What a question asks for that is not in force today: by a date, a version, or a word like "old"."""

    def __init__(self, editions: Editions, question: str, today: date) -> None:
        self._editions, self._today = editions, today
        spans, rest = spans_in(question, today=today)
        self._spans = [(first, last) for first, last in spans if not first <= today <= last]
        self._versions, rest = _versions_in(rest)
        self._words = frozenset(WORD.findall(rest))
        self._past, self._drafts = (
            not _WORDS[asks].isdisjoint(self._words) for asks in ("asks past", "asks draft")
        )
        """Whether a word asks for what was in force, and for drafts."""
        over = (each for each in editions.known.values() if not each.holds(today))
        left_out = (each.known.document_id for each in over if not self._asks_for(each))
        self.left_out = frozenset(islice(left_out, MOST_LEFT_OUT))
        """Ids of the documents that the question must not find."""

    def told(
        self,
        documents: Mapping[str, StoredDocument],
        *,
        labels: frozenset[str],
        asked_for: Collection[str] = (),
    ) -> dict[str, StoredDocument]:
        """Return the documents that were read without those that it must not find; the others that are not
        in force say so (``DocumentCard.not_in_force``). ``asked_for``: ids of documents that the question
        asks for by what they say."""
        told: dict[str, StoredDocument] = {}
        for name, document in documents.items():
            own = Edition.of(document.card)
            edition = self._editions.known.get(name) or own
            notes = (self._editions.note(each, self._today, labels=labels) for each in (own, edition))
            if not (note := next(filter(None, notes), "")):
                told[name] = document
            elif name in asked_for or self._asks_for(edition):
                about = name in asked_for or self._is_about(edition)
                card = replace(document.card, not_in_force=note, banner=note, is_asked_for=about)
                told[name] = replace(document, card=card)
        return told

    def _asks_for(self, edition: Edition) -> bool:
        """Return whether the question asks for an edition that is not in force today: for one of its days, as
        far as these are known, its version, or by a word. Without a first day the year before its end
        counts."""
        last = edition.last or date.max
        first = edition.first or (last - timedelta(366) if edition.last else last)
        if any(first <= end and begin <= last for begin, end in self._spans):
            return True
        if edition.name.version in self._versions:
            return True
        if not (self._past or self._drafts) or (edition.first is not None and edition.first > self._today):
            return False
        is_draft = not _WORDS["drafts"].isdisjoint(WORD.findall(fold(edition.never)))
        return self._drafts if is_draft else self._past

    def _is_about(self, edition: Edition) -> bool:
        """Return whether the question has half of the words of one of its names."""
        asked = {word.removesuffix("s") for word in self._words}
        names = [[word.removesuffix("s") for word in WORD.findall(key)] for key in edition.name.keys]
        return any(2 * len(asked.intersection(words)) >= len(words) for words in names)
