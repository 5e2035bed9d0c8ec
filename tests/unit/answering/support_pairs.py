"""Makes pairs of a unit and a claim, wrong and faithful ones, from the tenants' own documents.

``python -m tests.unit.answering.support_pairs OUT.jsonl`` writes them, one JSON object a line. They measure
``assistant.answering.support`` and share no word list with it, so that the one does not prove the other.

A wrong claim is a sentence of a document with one thing changed, so that no unit of the document carries it.
A faithful one says the same in another form. The same documents and seed give the same pairs. A claim whose
words another unit holds as well is left out, because it might be true.
"""

from __future__ import annotations

import argparse
import hashlib
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Literal, TypeVar

from assistant.domain.documents import Document, Unit, UnitKind
from assistant.domain.public import PublicModel
from assistant.knowledge.files import SourceDocument, read_sources
from assistant.knowledge.parsing import parse_document
from assistant.text.language import split_sentences

Kind = Literal["row", "object", "negation", "merge", "number", "actor", "condition", "faithful"]
Half = Literal["tuning", "held_out"]
MOST_WRONG = 80
"""Wrong pairs of one kind and tenant."""
MOST_FAITHFUL = 320
"""Faithful pairs of a tenant."""
MOST_PER_DOCUMENT = 5
"""Pairs of one kind of one document, so that no long document decides a figure."""
DEFAULT_SEED = 1

_T = TypeVar("_T")
_Claims = Iterator[tuple[Kind, str, str]]
"""(kind, form, claim)"""


class SupportPair(PublicModel):
    """A claim, and the unit that it was made from."""

    tenant: str
    document_id: str
    half: Half
    kind: Kind
    form: str
    """How the claim was made: "subject exchanged", "clause order"."""
    unit: str
    claim: str


def half_of(document_id: str) -> Half:
    """Return the half of the documents that a document is in: tune on one, report the other as well."""
    return "held_out" if int(hashlib.sha256(document_id.encode()).hexdigest(), 16) % 2 else "tuning"


def support_pairs(folder: Path, *, tenant: str, seed: int = DEFAULT_SEED) -> list[SupportPair]:
    """Return the pairs of a folder's documents by kind. Raises NotFoundError when there is no such folder."""
    documents = [item.document for item in read_sources([folder]) if isinstance(item, SourceDocument)]
    made: dict[tuple[Kind, str], dict[str, SupportPair]] = defaultdict(dict)
    for source in map(_Source, documents):
        for unit, kind, form, claim in _made(source, seed):
            made[kind, form].setdefault(
                claim,
                SupportPair(
                    tenant=tenant,
                    document_id=source.document_id,
                    half=half_of(source.document_id),
                    kind=kind,
                    form=form,
                    unit=unit.text,
                    claim=claim,
                ),
            )
    by_kind: dict[Kind, list[list[SupportPair]]] = defaultdict(list)
    for (kind, _), pairs in sorted(made.items()):
        by_kind[kind].append(sorted(pairs.values(), key=lambda pair: _order(seed, pair.claim)))
    return [pair for _, forms in sorted(by_kind.items()) for pair in _chosen(forms)]


def _chosen(forms: Sequence[Sequence[SupportPair]]) -> Iterator[SupportPair]:
    """Yield pairs of each form in turn, up to the limits of a document and of a kind."""
    left = [iter(pairs) for pairs in forms]
    per_document: dict[str, int] = defaultdict(int)
    count = 0
    while left:
        for pairs in list(left):
            pair = next((p for p in pairs if per_document[p.document_id] < MOST_PER_DOCUMENT), None)
            if pair is None:
                left.remove(pairs)
                continue
            per_document[pair.document_id] += 1
            count += 1
            yield pair
            if count == (MOST_FAITHFUL if pair.kind == "faithful" else MOST_WRONG):
                return


def _made(source: _Source, seed: int) -> Iterator[tuple[Unit, Kind, str, str]]:
    """Yield everything that can be made of a document, with duplicates."""
    for told in source.statements:
        for kind, form, claim in chain.from_iterable(make(told, seed) for make in _MAKERS):
            if claim == told.text and told.text == told.unit.text:
                continue
            rearranged = kind in {"negation", "condition"} or form == "exchanged"
            if kind == "faithful" or not source.holds(claim, but=told.unit if rearranged else None):
                yield told.unit, kind, form, claim
    for unit, kind, form, claim in chain(_of_tables(source, seed), _of_terms(source, seed)):
        if kind == "faithful" or not source.holds(claim):
            yield unit, kind, form, claim


# Documents and statements


def _words(names: str) -> frozenset[str]:
    return frozenset(names.split())


_MARKER = re.compile(r"\A(?:[-*\u2022]|\d{1,3}[.)])\s+")
_FOOTNOTE = re.compile(r"(?<=[a-z)]\.)\d{1,2}\Z")
_GOOD = re.compile(r"[A-Z][^\"\u201c\u201d?!:;\n]+\.")
_GLUED = re.compile(r"[a-z.)][A-Z][a-z]|[a-z]\.[a-z\d]|\s-\s|\A[^(]*\)|\([^)]*\Z")
"""Sentences that ran into each other when the source was made, and halves of a bracket."""
_SHORTEST, _LONGEST = 5, 34
"""Words of a statement."""
_SMALL = _words(
    """a an the and or of to in on at for from by with as is are was were be been has have had do does did
    not no it its this that these those they them their you your we our us he she his her who which what if
    when so then than but also may must can should will would there any all each every other always"""
)


@dataclass(frozen=True, slots=True)
class _Statement:
    """One sentence of a unit, without list marker."""

    source: _Source
    unit: Unit
    text: str
    alone: bool
    """The unit says nothing else."""


class _Source:
    """A document with what may be exchanged in it."""

    def __init__(self, document: Document) -> None:
        self.document_id = document.document_id
        self._document = document

    @cached_property
    def units(self) -> Sequence[Unit]:
        return parse_document(self._document).units

    @cached_property
    def statements(self) -> list[_Statement]:
        found: list[_Statement] = []
        for unit in self.units:
            if unit.kind is UnitKind.ROW:
                continue
            spans = split_sentences(_MARKER.sub("", unit.text))
            for sentence in (_FOOTNOTE.sub("", span.text.strip()) for span in spans):
                fits = _SHORTEST <= len(sentence.split()) <= _LONGEST
                if fits and _GOOD.fullmatch(sentence) and not _GLUED.search(sentence):
                    found.append(_Statement(self, unit, sentence, alone=len(spans) == 1))
        return found

    @cached_property
    def _words_by_unit(self) -> list[frozenset[str]]:
        return [_crude_words(f"{unit.heading} {unit.text}") for unit in self.units]

    def holds(self, claim: str, *, but: Unit | None = None) -> bool:
        """Say whether one unit (other than ``but``) has all words of a claim: it might carry it."""
        words = _crude_words(claim)
        held = zip(self.units, self._words_by_unit, strict=True)
        return any(words <= has for unit, has in held if but is None or unit.ordinal != but.ordinal)

    @cached_property
    def instructs(self) -> bool:
        """Whether it is a procedure, where "may" permits; elsewhere "may" means perhaps."""
        return any(unit.kind is UnitKind.STEP for unit in self.units)

    @cached_property
    def _lower_words(self) -> frozenset[str]:
        return frozenset(word for unit in self.units for word in re.findall(r"\b[a-z]+\b", unit.text))

    def lower(self, text: str) -> str:
        """Return the text as it stands inside a sentence: names and abbreviations keep their capital."""
        first = re.match(r"[A-Z][a-z]*\b", text)
        return text[:1].lower() + text[1:] if first and first[0].lower() in self._lower_words else text

    @cached_property
    def nouns(self) -> frozenset[str]:
        seen = {noun for told in self.statements for noun in _NOUN_SEEN.findall(told.text)}
        return frozenset(n for n in seen - _NOT_NOUNS if not re.fullmatch(_ROLE, n) and n[-4:] != "self")

    @cached_property
    def desks(self) -> frozenset[str]:
        return frozenset(name for told in self.statements for name in _DESK.findall(told.text))

    @cached_property
    def roles(self) -> frozenset[str]:
        named = re.compile(
            rf"\b(?:[Tt]he|[Aa]n?|[Yy]our|[Tt]o) ({_ROLE})\b|\b(women|men|children|infants|babies|doctors)\b"
        )
        return frozenset(f[1] or f[2] for told in self.statements for f in named.finditer(told.text))

    @cached_property
    def numbers(self) -> Mapping[str, frozenset[str]]:
        """By the unit behind them; all of them under "*"."""
        found: dict[str, set[str]] = defaultdict(set)
        for told in self.statements:
            for number, unit in _NUMBER.findall(told.text):
                found[unit.rstrip("s")].add(number)
                found["*"].add(number)
        return {unit: frozenset(numbers) for unit, numbers in found.items()}

    @cached_property
    def subjects(self) -> frozenset[str]:
        """Headings that name a thing."""
        names = {told.unit.heading.split(" > ")[-1] for told in self.statements}
        return frozenset(name for name in names if _SUBJECT_NAME.fullmatch(name))


def _crude_words(text: str) -> frozenset[str]:
    """Return the words of a text without their commonest endings; no stemmer is shared with the checker."""
    words = re.findall(r"[a-z]+|\d+(?:\.\d+)?", text.lower().replace(",", ""))
    return frozenset(re.sub(r"(?:ing|ed|es|s|d)\Z", "", word) for word in words if word not in _SMALL)


def _order(*key: object) -> str:
    return hashlib.sha256(repr(key).encode()).hexdigest()


def _pick(options: Iterable[_T], *key: object) -> _T | None:
    """Return one of the options, the same one each time; None of none."""
    return min(options, key=lambda option: _order(option, *key), default=None)


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_instruction(text: str) -> str | None:
    """Return the verb that opens an instruction."""
    verb = text.split(maxsplit=1)[0]
    return verb if verb in _PARTICIPLES else None


def _after(text: str) -> str:
    """Return an instruction as it stands after "Do not" or "You should"."""
    return text[:1].lower() + text[1:]


# English word lists, because there is no parser

_PARTICIPLES: Mapping[str, str] = {
    "Add": "added", "Answer": "answered", "Apply": "applied", "Ask": "asked", "Avoid": "avoided",
    "Bill": "billed", "Book": "booked", "Call": "called", "Check": "checked", "Choose": "chosen",
    "Clean": "cleaned", "Close": "closed", "Compare": "compared", "Complete": "completed",
    "Confirm": "confirmed", "Credit": "credited", "Drink": "drunk", "Eat": "eaten", "Enter": "entered",
    "Explain": "explained", "Find": "found", "Get": "got", "Give": "given", "Invite": "invited",
    "Keep": "kept", "Leave": "left", "Limit": "limited", "Mark": "marked", "Move": "moved", "Note": "noted",
    "Offer": "offered", "Open": "opened", "Pass": "passed", "Phone": "phoned", "Print": "printed",
    "Quote": "quoted", "Read": "read", "Record": "recorded", "Remove": "removed", "Report": "reported",
    "Save": "saved", "Send": "sent", "Set": "set", "Store": "stored", "Take": "taken", "Tell": "told",
    "Transfer": "transferred", "Use": "used", "Wash": "washed", "Wear": "worn", "Write": "written",
}  # fmt: skip
"""Verbs that open an instruction, with their participles."""
_MODAL = re.compile(r"\b(may|must|can|should|will)\b(?! not\b)")
_SUBJECT_MODAL = re.compile(
    r"(?P<subject>[A-Z][a-z]*\b[^,.]{2,60}?) (?P<modal>may|must|can|should|will) "
    r"(?P<rest>(?!not\b)[^.]{12,160})\."
)
_IF_FIRST = re.compile(r"(?P<word>If|When|Unless) (?P<condition>[^,.]{8,120}), (?P<main>[^.]{10,160})\.")
_IF_LAST = re.compile(
    r"(?P<main>[A-Z][^,.]{10,140}?),? (?P<word>only (?:if|when|after)|if|unless|when) "
    r"(?P<condition>[^,.]{8,120})\."
)
_WHETHER = re.compile(
    r"\b(?:show|out|see|know|asks?|asked|check|tell|decide|determine|sure|look|times?|and|or)\Z"
)
"""After these, "if" means whether and "when" which time."""
_LOOSE = re.compile(r"\A(?:it|they|he|she|this|that|however)\b|\b(?:them|which|who|that)\b", re.IGNORECASE)
"""What points at another clause, or would take the condition for its own."""
_ALREADY = re.compile(r"\b(?:if|unless|when|only|until|always|whether|even|then|otherwise)\b", re.IGNORECASE)
_RELATIVE = re.compile(r"\b(?:who|which|that|and|or|also|\w+ly)\b")
_NUMBER = re.compile(r"(?<![\w.,-])(\d+(?:,\d{3})*(?:\.\d+)?)(?![\w,-]|\.\d)(?: (percent|[a-z]+))?")
_NUMBER_NAMES = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty",
)  # fmt: skip
_NAMES_A_THING = re.compile(r"(?:ext\.|code|[Tt]ype|day|level|Part|/)\s*\Z")
"""A number after it is a name."""
_ROLE = (
    r"(?:[A-Z][a-z]+ (?:[A-Z][a-z]+ )?(?:Desk|Office|Team|Lead)|health care (?:providers?|team)|"
    r"pharmacists?(?: on duty| in charge)?|patients?|prescribers?|caregivers?|doctors?|insurers?|nurses?|"
    r"surgeons?|employers?|manufacturers?|adjusters?|care agents?|agents?|parents?|children|women|men|"
    r"(?:older )?adults|people|technicians?|physicians?|infants?|babies|desk|plan|guardian|executor|"
    r"interpreter|other pharmacy|courier)"
)
_SUBJECT_ROLE = re.compile(
    rf"(?:\A|(?<=[,;] )|(?<=Only ))(?P<article>(?:[Tt]he|[Aa]n?|[Yy]our|[Tt]heir) )?"
    rf"(?P<role>{_ROLE}|Women|Men|Children|People|Doctors|Adults|Patients)"
    r"(?= (?:may|must|can|should|will|need|have|do|are|who|with|[a-z]{3,}s) )"
)
_ROLE_INSIDE = re.compile(rf"\b(?P<article>the|a|an|your|their) (?P<role>{_ROLE})\b(?! (?:and|or|of|'s))")
_MUTUAL = re.compile(
    r"[,;]|\b(?:agree|share|match|same|both|talk|speaks?|meets?|discuss|is|are|or|and|if|when)\b"
)
"""Between two actors who may then change places, or of whom the second acts in a clause of its own."""
_SAME_ROLE = (
    _words(
        "doctor doctors physician physicians health_care_provider health_care_providers surgeon nurse nurses"
    )
    | _words("health_care_team"),
    _words("people adults patients patient women men older_adults"),
    _words("agent care_agent agents care_agents"),
    _words("children infants infant babies"),
    _words("pharmacist pharmacist_on_duty pharmacist_in_charge pharmacists"),
)
"""Roles of which one may stand for another: exchanging them might leave the claim true."""
_OPPOSITES = ({"women", "men"}, {"women", "children"}, {"men", "children"})
_OFTEN_SPOKEN_OF = ("pharmacist", "nurse", "family member", "manager", "dentist", "women", "children")
_SAME_THING = tuple(
    map(
        _words,
        (
            "medicine medicines medication medications drug drugs product products treatment",
            "form paper letter document note entry record",
            "disease diseases condition conditions disorder illness problem symptom symptoms",
            "test tests exam procedure",
            "call phone line",
            "day days date time times week month year",
            "store pharmacy counter",
            "person patient patients caller people body",
            "price cost amount total money",
            "request case claim",
            "cause reason risk",
        ),
    )
)
_NOT_NOUNS = _words("same other first second next last most least following former latter more own")
_DETERMINER = r"(?:the|a|an|this|each|every|your|our|their|its|his|her)"
_NOUN_END = r"[.,;:)]| (?:of|in|on|from|for|with|at|by)\b"
_NOUN_SEEN = re.compile(rf"\b{_DETERMINER} ([a-z]{{3,}})(?={_NOUN_END}| (?:is|are|was|has|may|must|can)\b)")
_NOUN_SLOT = re.compile(rf"\b{_DETERMINER} (?P<noun>[a-z]{{3,}})(?={_NOUN_END})")
_DESK = re.compile(r"\b(?:[A-Z][a-z]+ ){1,2}(?:Desk|Office)\b")
_DESK_SPOKEN_TO = re.compile(
    rf"\b(?:to|ask|phone|call|tell|at|by) the ({_DESK.pattern})(?: \(ext\. \d+\)| at ext\. \d+)?"
)
_SUBJECT_NAME = re.compile(
    r"(?!Overview|Outlook|Before|Exceptions|Espa|Steps|Other|Key|Stable)[A-Z][a-z]+(?: [A-Za-z]+){0,2}"
)
_PREPOSITION = re.compile(r" (?=(?:in|to|on|from|with|at|into|as|before|after|for|by|within)\b)")


def _same(first: str, second: str, groups: Sequence[frozenset[str]]) -> bool:
    names = {first.lower().replace(" ", "_"), second.lower().replace(" ", "_")}
    return any(names <= group for group in groups)


def _is_plural(noun: str) -> bool:
    regular = noun.endswith("s") and not noun.endswith(("ss", "us"))
    return regular or noun.lower() in {"people", "children", "women", "men"}


def _takes_plural(subject: str) -> bool:
    return subject.lower() in {"we", "you", "they"} or _is_plural(subject)


# Wrong claims


def _objects(told: _Statement, seed: int) -> _Claims:
    """A noun, or a desk that is spoken to, exchanged for another of the document."""
    text, own = told.text, _crude_words(f"{told.unit.text} {told.unit.heading}")
    for slot in _NOUN_SLOT.finditer(text):
        noun = slot["noun"]
        if noun not in told.source.nouns:
            continue
        fit = (other for other in told.source.nouns if _is_plural(other) == _is_plural(noun))
        others = [o for o in fit if not _same(noun, o, _SAME_THING) and not _crude_words(o) <= own]
        other = _pick(others, seed, text, noun)
        if other is not None:
            before = re.sub(
                r"\b([Aa])n? \Z", rf"\1{'n' * (other[0] in 'aeiou')} ", text[: slot.start("noun")]
            )
            yield "object", "noun", before + other + text[slot.end("noun") :]
    desk = _DESK_SPOKEN_TO.search(text)
    other = _pick([o for o in told.source.desks if not _crude_words(o) <= own], seed, text)
    if desk and other is not None:
        yield "object", "desk", text[: desk.start(1)] + other + text[desk.end() :]


def _numbers(told: _Statement, seed: int) -> _Claims:
    """A number exchanged for another of the document, of the same unit if there is one."""
    text, own, known = told.text, _crude_words(told.unit.text), told.source.numbers
    for found in _NUMBER.finditer(text):
        number, unit = found[1], (found[2] or "").rstrip("s")
        if number == "1":
            continue
        options = known.get(unit, known["*"])
        if text[: found.start()].rstrip().endswith("ext."):
            options = [n for n in known["*"] if len(n) == len(number)]
        fresh = [n for n in options if n != "1" and not {n.replace(",", ""), _in_letters(n)} & own]
        other = _pick(fresh, seed, text, number)
        if other is None and number.isdigit() and str(int(number) * 2 + 1) not in own:
            other = str(int(number) * 2 + 1)
        if other is not None:
            yield "number", "number", text[: found.start(1)] + other + text[found.end(1) :]


def _in_letters(number: str) -> str:
    small = number.isdigit() and int(number) < len(_NUMBER_NAMES)
    return _NUMBER_NAMES[int(number)] if small else number


def _actors(told: _Statement, seed: int) -> _Claims:
    """The one who acts, exchanged for another actor of the document; else for one who is often spoken of."""
    for found in _SUBJECT_ROLE.finditer(told.text):
        for form, roles in (("subject exchanged", told.source.roles), ("from outside", _OFTEN_SPOKEN_OF)):
            other = _pick([o for o in roles if _may_replace(o, found, told)], seed, told.text)
            if other is not None:
                yield "actor", form, _with_subject(told.text, found, other)
                break
    yield from _exchanged(told.text)


def _may_replace(other: str, found: re.Match[str], told: _Statement) -> bool:
    role = found["role"].lower()
    if _is_plural(other) != _is_plural(role) or _crude_words(other) <= _crude_words(told.unit.text):
        return False
    if "desk" in {role, other} or (found["article"] is None and not _is_plural(role)):
        return False
    return {role, other} in _OPPOSITES or not _same(role, other, _SAME_ROLE)


def _with_subject(text: str, found: re.Match[str], other: str) -> str:
    article = (found["article"] or "").lower()
    if article and other[0].isupper():
        article = "the "
    elif article in {"a ", "an "}:
        article = "an " if other[0] in "aeiou" else "a "
    start = found.start("article") if found["article"] else found.start("role")
    return _upper(f"{text[:start]}{article}{other}{text[found.end('role') :]}")


def _exchanged(text: str) -> _Claims:
    """The actor and the one acted upon change places."""
    found = _SUBJECT_ROLE.search(text)
    inside = _ROLE_INSIDE.search(text, found.end("role")) if found else None
    if not found or not found["article"] or not inside:
        return
    role, between = found["role"], text[found.end("role") : inside.start()]
    if _is_plural(inside["role"]) != _is_plural(role) or _same(role, inside["role"], _SAME_ROLE):
        return
    if not _MUTUAL.search(between):
        head, tail = text[: found.start("article")], text[inside.end() :]
        swapped = f"{inside['article']} {inside['role']}{between}{found['article'].lower()}{role}"
        yield "actor", "exchanged", _upper(f"{head}{swapped}{tail}")


def _merges(told: _Statement, seed: int) -> _Claims:
    """One statement's condition or subject, another section's consequence."""
    far = [other for other in told.source.statements if _is_far(told, other)]
    condition = _IF_FIRST.fullmatch(told.text)
    if condition:
        mains = [found["main"] for other in far if (found := _IF_FIRST.fullmatch(other.text))]
        own = _crude_words(told.text)
        main = _pick([main for main in mains if not _crude_words(main) <= own], seed, told.text)
        if main is not None:
            claim = f"{condition['word']} {condition['condition']}, {main}."
            yield "merge", "condition and consequence", claim
    subject = _SUBJECT_MODAL.fullmatch(told.text)
    if subject:
        own = _crude_words(subject["subject"])
        tails = [
            f"{found['modal']} {found['rest']}."
            for other in far
            if (found := _SUBJECT_MODAL.fullmatch(other.text)) and not _crude_words(found["subject"]) & own
        ]
        tail = _pick(tails, seed, told.text)
        if tail is not None:
            yield "merge", "subject and predicate", f"{subject['subject']} {tail}"


def _is_far(first: _Statement, second: _Statement) -> bool:
    """Different sections; documents without headings have none, and distance stands for them."""
    if first.unit.heading != second.unit.heading:
        return True
    return not first.unit.heading and abs(first.unit.ordinal - second.unit.ordinal) > 3


_ANY_NEGATION = re.compile(r"\b(?:not|never|no|cannot|without|nor|neither|none)\b|n't\b", re.IGNORECASE)
_HALF_NEGATION = re.compile(r"\b(?:only|unless|rarely|seldom|few|whether)\b", re.IGNORECASE)
_NO_PLAIN_NEGATION = re.compile(
    r"\bno (?:longer|more|later|less|matter|fewer)\b|not only|or not|if (?:not|no)\b"
)
_BEING = re.compile(
    r"\A(?!If|When|Give|Unless)[A-Z][a-z]*(?: [a-z]+){0,4} (?:is|are|was|were)"
    r"(?= (?:[a-z]+ed\b|[a-z]+en\b|an? |the ))"
)
_UNNEGATED: Mapping[str, str] = {
    r"\ADo not ([a-z])": r"\1",
    r"\ANever ([a-z])": r"Always \1",
    r"\ANo ([a-z])": r"A \1",
    r"\b(may|must|can|should|will|is|are|was|were) not ": r"\1 ",
    r"\b(do|does) not ": "",
    r"\bcannot\b": "can",
    r"\bnever\b": "always",
    r"\bwithout\b": "with",
}


def _negations(told: _Statement, seed: int) -> _Claims:
    """A negation added to the first modal, verb or instruction, or the only one taken away."""
    text, negations = told.text, _ANY_NEGATION.findall(told.text)
    if not negations and not _HALF_NEGATION.search(text):
        modal = _MODAL.search(text)
        if modal and not text.startswith(("If", "When")) and " who " not in text[: modal.start()]:
            impossible = modal[1] == "can" or (modal[1] == "may" and not told.source.instructs)
            word = "cannot" if impossible else f"{modal[1]} not"
            yield "negation", "added to modal", text[: modal.start()] + word + text[modal.end() :]
        if _as_instruction(text):
            yield "negation", "instruction forbidden", f"Do not {_after(text)}"
        being = _BEING.search(text)
        if being:
            yield "negation", "added to being", f"{being[0]} not{text[being.end() :]}"
    if len(negations) == 1 and not _NO_PLAIN_NEGATION.search(text):
        pattern = next((pattern for pattern in _UNNEGATED if re.search(pattern, text)), None)
        if pattern is not None:
            yield "negation", "removed", _upper(re.sub(pattern, _UNNEGATED[pattern], text, count=1))


def _conditions(told: _Statement, seed: int) -> _Claims:
    """The condition dropped, denied or inverted."""
    first, last = _IF_FIRST.fullmatch(told.text), _IF_LAST.fullmatch(told.text)
    if first and not _ALREADY.search(first["main"]) and not _LOOSE.search(first["main"]):
        main, condition = first["main"], first["condition"]
        plain = not re.search(r"\A\w+(?:ing|ed)\b|\b(?:not|no|un\w+)\b|\A\S+ \S+\Z|\A\S+\Z", condition)
        if first["word"] == "Unless":
            yield "condition", "inverted", f"If {condition}, {main}."
        elif len(main.split()) > 4:
            yield "condition", "dropped", f"{_upper(main)}."
        if first["word"] != "Unless" and plain:
            yield "condition", "denied", f"{_upper(main)}, whether or not {condition}."
            yield "condition", "inverted", f"Unless {condition}, {main}."
    if (
        last
        and last["word"] != "when"
        and not _ALREADY.search(last["main"])
        and not _WHETHER.search(last["main"])
    ):
        main, condition = last["main"], last["condition"]
        if len(main.split()) > 4:
            yield "condition", "dropped", f"{main}."
        if last["word"] in {"if", "unless"}:
            word = "if" if last["word"] == "unless" else "unless"
            yield "condition", "inverted", f"{main} {word} {condition}."
        else:
            yield "condition", "denied", f"{main}, whether or not {condition}."


_VALUE = r"\d[\w.,]*(?: [a-z/]+){0,4}"
_PARALLEL = re.compile(rf"({_VALUE}) (for|in|to) ([a-z ]{{3,25}}),? and ({_VALUE}) \2 ([a-z ]{{3,25}})")


def _rows_in_text(told: _Statement, seed: int) -> _Claims:
    """Yield statements about another section's subject, and sentences with two values exchanged."""
    text = told.text
    for subject in told.source.subjects:
        opening = re.match(rf"(?:The |An? )?({re.escape(subject)})(?= )", text, re.IGNORECASE)
        if opening:
            others = [
                other
                for other in told.source.subjects
                if not _crude_words(other) & _crude_words(text) and _is_plural(other) == _is_plural(subject)
            ]
            other = _pick(others, seed, text)
            if other is not None:
                name = other if opening.start(1) == 0 else other.lower()
                claim = text[: opening.start(1)] + name + text[opening.end(1) :]
                yield "row", "other section's subject", claim
    parallel = _PARALLEL.search(text)
    if parallel and parallel[1] != parallel[4]:
        first, word, one, second, other = parallel.groups()
        swapped = f"{second} {word} {one} and {first} {word} {other}"
        yield "row", "values exchanged", text.replace(parallel[0], swapped)


_TERM = re.compile(r"(?:[-*\u2022] )?([A-Z][A-Za-z -]{3,40}?) ?: ([A-Z][^.;:?]{15,160})[.;]?(?: |\Z)")


def _of_terms(source: _Source, seed: int) -> Iterator[tuple[Unit, Kind, str, str]]:
    """Another term's meaning for this term."""
    found = [(unit, _TERM.match(unit.text)) for unit in source.units if unit.kind is not UnitKind.ROW]
    terms = [(unit, match[1], match[2]) for unit, match in found if match and "NIH" not in unit.text]
    for unit, term, _ in terms:
        others = [m for _, name, m in terms if name != term and term.lower() not in m.lower()]
        meaning = _pick(others, seed, term)
        if meaning is not None:
            yield unit, "row", "other term's meaning", f"{term} means {_after(meaning)}."


def _of_tables(source: _Source, seed: int) -> Iterator[tuple[Unit, Kind, str, str]]:
    """Each row as a sentence, and with another row's value."""
    tables: dict[tuple[str, tuple[str, ...]], list[tuple[Unit, dict[str, str]]]] = defaultdict(list)
    for unit in source.units:
        cells = _cells(unit.text) if unit.kind is UnitKind.ROW else {}
        if cells:
            tables[unit.heading, tuple(cells)].append((unit, cells))
    for (_, (key, *headers)), rows in tables.items():
        for unit, cells in rows:
            for header in headers:
                told = cells[header]
                if "." not in told.rstrip(".") and len(told) > 2:
                    yield unit, "faithful", "row as sentence", _row_sentence(source, key, header, cells)
                others = [row[header] for _, row in rows]
                fit = [o for o in others if not _crude_words(o) <= _crude_words(unit.text)]
                other = _pick(fit, seed, unit.text, header)
                if other is not None:
                    claim = _row_sentence(source, key, header, {**cells, header: other})
                    yield unit, "row", "other row's cell", claim


def _cells(row: str) -> dict[str, str]:
    """Return the cells of a row by header; empty when a cell holds a semicolon and cannot be told apart."""
    pieces = [piece.partition(": ") for piece in row.split("; ")]
    if any(not value or not name[0].isupper() for name, _, value in pieces):
        return {}
    return {name: value for name, _, value in pieces}


def _row_sentence(source: _Source, key: str, header: str, cells: Mapping[str, str]) -> str:
    """Return "For <key>, <header> is <cell>."; a short key keeps its own header: "For code 5, …"."""
    subject = source.lower(cells[key].rstrip("."))
    if len(subject.split()) <= 2 and not subject.islower():
        subject = f"{source.lower(key)} {subject}"
    return f"For {subject}, {source.lower(header)} is {source.lower(cells[header].rstrip('.'))}."


# Faithful claims


def _restated(told: _Statement, seed: int) -> _Claims:
    """The same statement in another form, if the unit says nothing else."""
    if not told.alone:
        return
    yield "faithful", "marker dropped", told.text
    numbered = _NUMBER.sub(_number_in_words, told.text)
    if numbered != told.text:
        yield "faithful", "numbers in words", numbered
    for form, claim in chain(_reordered(told), _modal_restated(told), _passive(told.text)):
        yield "faithful", form, claim


def _number_in_words(found: re.Match[str]) -> str:
    if _NAMES_A_THING.search(found.string[: found.start()]):
        return found[0]
    return " ".join(filter(None, (_in_letters(found[1]), found[2])))


def _reordered(told: _Statement) -> Iterator[tuple[str, str]]:
    first, last = _IF_FIRST.fullmatch(told.text), _IF_LAST.fullmatch(told.text)
    if first and not _ALREADY.search(first["main"]) and not _LOOSE.search(first["main"]):
        yield "clause order", f"{_upper(first['main'])} {first['word'].lower()} {first['condition']}."
    if last and not last["word"].startswith("only"):
        main = last["main"]
        if not any(pattern.search(main) for pattern in (_ALREADY, _WHETHER, _LOOSE)):
            yield "clause order", f"{_upper(last['word'])} {last['condition']}, {told.source.lower(main)}."


_PERMITTED = re.compile(
    r"(\w+) may (?=ask|refill|receive|order|use|pay|choose|return|speak|sign|request|refuse|change)"
)


def _modal_restated(told: _Statement) -> Iterator[tuple[str, str]]:
    text = told.text
    must = re.search(r"(\w+) must (?!not\b|also\b|still\b|\w+ly\b)", text)
    if must and not _RELATIVE.search(text[: must.end(1)]):
        yield "has to", text.replace("must", "have to" if _takes_plural(must[1]) else "has to", 1)
    may = _PERMITTED.search(text) if told.source.instructs else None
    if may and not _RELATIVE.search(text[: may.end(1)]):
        yield (
            "is allowed to",
            text.replace("may", f"{'are' if _takes_plural(may[1]) else 'is'} allowed to", 1),
        )
    if text.startswith(("Do not ", "Never ")):
        yield "must not", re.sub(r"\ADo not", "You must not", re.sub(r"\ANever", "You must never", text))
    if _as_instruction(text):
        yield "you should", f"You should {_after(text)}"


def _passive(text: str) -> Iterator[tuple[str, str]]:
    """Instructions without a second clause: "Write the date in the note.": "The date has to be …"."""
    verb, _, rest = text.rstrip(".").partition(" ")
    if verb not in _PARTICIPLES or verb in {"Ask", "Tell", "Give", "Offer", "Answer", "Get"}:
        return
    if re.search(r",|\b(?:and|that|if|when|whether|who|which|until|not)\b", rest):
        return
    thing, *others = _PREPOSITION.split(rest, maxsplit=1)
    if re.match(r"(?:the|a|an|your|each|every|this) ", rest) and (others or " of " not in rest):
        must = "have to" if _is_plural(thing.split()[-1]) else "has to"
        yield "passive", " ".join([_upper(thing), must, "be", _PARTICIPLES[verb], *others]) + "."


_MAKERS: tuple[Callable[[_Statement, int], _Claims], ...] = (
    _objects, _numbers, _actors, _merges, _negations, _conditions, _rows_in_text, _restated,
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the pairs of every tenant below the knowledge folder."""
    parser = argparse.ArgumentParser(description="Write wrong and faithful claims on the tenants' documents.")
    parser.add_argument("out", type=Path, help="file of JSON lines to write")
    parser.add_argument("--knowledge", type=Path, default=Path("knowledge"), help="one folder a tenant")
    parser.add_argument("--seed", type=int, default=DEFAULT_SEED)
    options = parser.parse_args(arguments)
    folders = sorted(path for path in options.knowledge.iterdir() if path.is_dir())
    pairs = [pair for path in folders for pair in support_pairs(path, tenant=path.name, seed=options.seed)]
    options.out.write_text("".join(f"{pair.model_dump_json()}\n" for pair in pairs), encoding="utf-8")


if __name__ == "__main__":
    main()
