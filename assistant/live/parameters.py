"""Values of a request's parameters: from the context, else from words of the question. Never guessed.

A question that names an id is about that id, however it is typed: "8485-5790", "84855790", "nr. 8485 5790".
Where the context does not have it, nothing of the context may be shown in its place.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from assistant.domain.elements import ElementProblem
from assistant.domain.live import CareContext
from assistant.live.ports import Caller, LiveReadError
from assistant.settings.connector import Operation, OperationParameter, matches_whole
from assistant.text.check_digits import digits_of, is_dea_number, is_npi, passes_luhn

_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "none": lambda _: True,
    "npi": is_npi,
    "dea": is_dea_number,
    "luhn": lambda value: passes_luhn(digits_of(value)),
}


_COUNTS: Mapping[int, str] = {2: "two", 3: "three", 4: "four"}
_LONGEST_VALUE = 128
_MOST_WORDS = 2_000
_MOST_SHAPES = 40
"""Spellings of ids that are looked for; a connector and a context have fewer than ten."""
_LEAST_CHARACTERS, _LEAST_DIGITS = 5, 4
"""Of an id that has other separators than its pattern: "4" and "2-4" are counts."""
_MOST_CHARACTERS = 48
_DASHES = re.compile("[\u2010-\u2015\u2212\u00ad]")
_BETWEEN = re.compile(r"[\s,;]+")
_BEFORE, _AFTER = "#([{<\"'\u201c\u2018", ".,;:!?)]}>\"'\u201d\u2019"
_BREAK = "\x01"
"""In place of what is read already: nothing is joined across it."""
_RUN = re.compile(r"\d+|[^\W\d_]+")
_TIGHT = frozenset("-._/:'\u2019~=")
_O_FOR_0 = re.compile(r"(?<=\d)[oO](?![^\W\d_])|(?<=\d-)[oO](?=\d)")
_L_FOR_1 = re.compile(r"(?<=\d)[lI](?=\d)")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|sept|oct|nov|dec)[a-z]{0,6}\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_UNIT = (
    r"mg|mcg|g|kg|ml|l|iu|oz|lbs?|cm|mm|m|inch(?:es)?|units?|tablets?|tabs?|pills?|capsules?|caps?|doses?|"
    r"refills?|fills?|days?|weeks?|months?|years?|hours?|hrs?|minutes?|mins?|times|dollars?|usd|cents?|euros?|"
    r"percent|degrees?|boxes|bottles?|items?|pieces?|miles?|steps?"
)
_NO_IDS = re.compile(
    rf"""(?P<date>(?<![\w-])(?:
        (?:19|20)\d\d-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12]\d|3[01])
      | (?:0?[1-9]|[12]\d|3[01])(?P<sep>[/.-])(?:0?[1-9]|[12]\d|3[01])(?P=sep)(?:(?:19|20)\d\d|\d\d)
    )(?![\w-]))
    | \b{_MONTH}\s{{0,3}}{_DAY}(?:,?\s{{1,3}}(?:19|20)\d\d)?\b
    | \b{_DAY}\s{{1,3}}(?:of\s)?{_MONTH}(?:,?\s{{1,3}}(?:19|20)\d\d)?\b
    | (?<![\w:])\d{{1,2}}:\d\d(?::\d\d)?(?![\w:])
    | [$\u20ac\u00a3\u00a5]\s?\d[\d,.]{{0,15}}
    | (?<![\w-])\d[\d.,]{{0,6}}\s?(?:%|(?:{_UNIT})\b)
    | (?P<unnamed>(?<![\w.-])\d{{1,3}}(?:,\d{{3}}){{1,4}}(?![\w-])
      | \+\d[\d\ ().-]{{6,18}}\d
      | (?<![\w-])(?:\(\d{{3}}\)|\d{{3}})[\ .-]?\d{{3}}[\ .-]\d{{4}}(?![\w-]))
    | \b(?:phone|tel|telephone|call|cell|mobile|fax|dial|sms|zip|npi|ndc|lot|tracking|card|barcode|
      dob|born|birth)\b
      (?:\s?(?:number|no|nr|code|is|her|him|them|back|at|on|the|ending|in|\#|:|\.)){{0,4}}\s?
      \d(?:[\d\ ().-]{{0,40}}\d)?""",
    re.IGNORECASE | re.VERBOSE,
)
"""Numbers that are no ids, unless the word before says what they are: "order 848-557-9012"."""
_SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "customer": ("patient", "client"),
    "order": ("ord",),
    "prescription": ("rx", "script"),
}
_CUE = re.compile(
    r"([^\W\d_]{1,30})[\s#:=_'-]{0,3}"
    r"(?:(?:number|numbers|no|nr|num|id|code|is|was|reference|ref|ending|in|with)[\s#:=_.-]{1,3}){0,4}$",
    re.IGNORECASE,
)
"""The word that says what the number behind it is."""
_SIGN = re.compile(r"(?:^|([^\W\d_]{1,30})\s{0,3})#\s?$")
_SIGN_AFTER = frozenset(
    ("is", "of", "for", "about", "with", "and", "the", "her", "his", "my", "their", "on", "to")
)
_YEAR = re.compile(r"(?:19|20)\d\d")
_PART = re.compile(r"\\.|\[\^?\]?[^\]]{0,200}\]|\{[^}]{0,8}\}|.", re.DOTALL)
_SEPARATORS = frozenset(("-", "_", "/", " ", ":", r"\-", r"\_", r"\/", r"\ ", r"\.", r"\:"))
"""In a pattern; a bare dot is any character."""


@dataclass(frozen=True, slots=True)
class FoundParameters:
    """The values of one request."""

    values: Mapping[str, str]
    about: str
    """As shown: "order 4471-2208"."""


def id_patterns(operations: Iterable[Operation]) -> Mapping[str, Sequence[str]]:
    """Return the patterns of the parameters that have ids of the context, by kind of id."""
    found: dict[str, list[str]] = {}
    for each in (parameter for operation in operations for parameter in operation.parameters):
        if each.context is not None:
            found.setdefault(each.context, []).extend([each.pattern] if each.pattern is not None else [])
    return found


def find_parameters(
    operation: Operation,
    caller: Caller,
    *,
    context_decides: bool,
    patterns: Mapping[str, Sequence[str]] | None = None,
) -> FoundParameters:
    """Return the values of a request, for the caller's context and question.

    With ``context_decides`` the ids of a personal operation come from the context; an id in the question only
    chooses among them. ``patterns``: of the system's ids by kind, by default those of the operation.
    Raises LiveReadError: NOT_ALLOWED where the question names an id of any kind that the context does not
    have, PARAMETER_MISSING with the words to ask for.
    """
    is_bound = operation.personal and context_decides
    if is_bound and caller.context is None:
        raise LiveReadError(
            ElementProblem.NOT_ALLOWED,
            "These are a customer's data. Ask from the customer's conversation in the care application.",
        )
    words = list(words_of(plain(caller.question)))
    named: Sequence[NamedId] = ()
    if operation.personal:
        known = id_patterns([operation]) if patterns is None else patterns
        named = named_ids(caller.question, patterns=known, context=caller.context)
    if is_bound:
        _check_own(operation, named)
    found: dict[str, str] = {}
    missing: list[_Missing] = []
    shown: list[str] = []
    for parameter in operation.parameters:
        of_kind = [one for one in named if one.kind == parameter.context and parameter.question]
        asked = [word for word in words if parameter.question and is_value(parameter, word)]
        ids = _ids(parameter, caller.context)
        if is_bound and parameter.context:
            chosen = [one.value for one in of_kind] or ids
        else:
            chosen = _free(asked, of_kind, ids, parameter)
        if len(chosen) == 1 and is_value(parameter, chosen[0]):
            found[parameter.name] = chosen[0]
            shown.append(f"{parameter.shown_as} {chosen[0]}")
        elif parameter.required or len(chosen) > 1:
            missing.append(_Missing(parameter, len(chosen) if asked or of_kind else 0))
    about = ", ".join(shown)[:500]
    if missing:
        raise LiveReadError(
            ElementProblem.PARAMETER_MISSING,
            " ".join(each.question for each in missing),
            about=about,
        )
    return FoundParameters(found, about)


@dataclass(frozen=True, slots=True)
class _Missing:
    """A parameter without exactly one value."""

    parameter: OperationParameter
    named: int
    """Values that the question names."""

    @property
    def question(self) -> str:
        """The question back: "Which order? Give the order number."."""
        label, words = self.parameter.label, self.parameter.words
        if self.named > 1:
            return f"Give one {words}: the question names {_COUNTS.get(self.named, 'several')}."
        return f"Which {label}? Give the {words}." if label and label != words else f"Give the {words}."


def _check_own(operation: Operation, named: Sequence[NamedId]) -> None:
    """Raise LiveReadError where the question names an id that the context does not have."""
    others = [one for one in named if not one.is_own]
    if not others:
        return
    labels = {each.context: each.shown_as for each in operation.parameters if each.context is not None}
    about = ", ".join(f"{labels.get(one.kind, one.kind.replace('_', ' '))} {one.value}" for one in others[:3])
    raise LiveReadError(
        ElementProblem.NOT_ALLOWED,
        f"{about} {'is' if len(others) == 1 else 'are'} not of this conversation's customer.",
        about=about,
        others=tuple((one.kind, one.value) for one in others),
    )


def is_enough(operation: Operation, word: str) -> bool:
    """Return whether one word of a question is all that a request needs."""
    required = [parameter for parameter in operation.parameters if parameter.required]
    return len(required) == 1 and required[0].question and is_value(required[0], word)


def _free(
    asked: Sequence[str], of_kind: Sequence[NamedId], ids: Sequence[str], parameter: OperationParameter
) -> Sequence[str]:
    """Return what the question names, in the context's spelling; the context's ids when it names none.

    An id of this kind that is no value ("order 848") leaves none: the context's is another one.
    """
    spelled = {each.casefold(): each for each in ids}
    values = [spelled.get(word.casefold(), word) for word in asked]
    values += [one.value for one in of_kind if is_value(parameter, one.value)]
    return list(dict.fromkeys(values)) or ([] if of_kind else ids)


def _ids(parameter: OperationParameter, context: CareContext | None) -> Sequence[str]:
    if context is None or parameter.context is None:
        return ()
    return list(dict.fromkeys(context_ids(context, parameter.context)))


def asked_id(operation: Operation, values: Mapping[str, str]) -> tuple[str, str] | None:
    """Return kind and value of the id that says most about whose data a request is.

    That is the first parameter with a kind of the context, else the first one that a result must equal, else
    the first one. None without any.
    """
    compared = {result.same_as for result in operation.results}
    ranked = sorted(
        (each for each in operation.parameters if each.name in values),
        key=lambda each: (each.context is None, each.name not in compared),
    )
    return next(((each.context or each.name, values[each.name]) for each in ranked), None)


def is_value(parameter: OperationParameter, word: str) -> bool:
    """Return whether a word has the pattern, type and check digit of a parameter."""
    if not _VISIBLE.fullmatch(word) or set(word) <= {"."}:  # dots alone would lead to another path
        return False
    if parameter.pattern is not None and not matches_whole(parameter.pattern, word):
        return False
    if parameter.type == "integer" and not re.fullmatch(r"\d{1,18}", word, re.ASCII):
        return False
    if parameter.type == "date" and not _is_date(word):
        return False
    return _CHECKS[parameter.check](word)


def _is_date(word: str) -> bool:
    try:
        return bool(_ISO_DATE.fullmatch(word) and date.fromisoformat(word))
    except ValueError:
        return False


# --- ids that a question names ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NamedId:
    """An id that a question names."""

    kind: str
    """Kind of id of the context: "order"."""
    value: str
    """In the spelling of the context, or of the pattern that it fits."""
    is_own: bool
    """Whether it is one of the context's."""


@dataclass(frozen=True, slots=True)
class _Shape:
    """How ids of one kind are written."""

    kind: str
    pattern: str
    compact: str
    """The pattern without separators."""
    separators: tuple[tuple[int, str], ...] | None
    """Where they stand in a compact id; None where that depends on the id."""
    length: int | None
    """Characters of a compact id; None where that depends on the id."""
    ignores_case: bool

    def fits(self, word: str) -> bool:
        """Return whether a word is such an id, as it is written."""
        return matches_whole(self.pattern, word)

    def respelled(self, compact: str, *, is_joined: bool) -> str | None:
        """Return a compact id with the separators of its pattern; None where it does not fit.

        ``is_joined``: letters and digits were apart, so that only the pattern's own case tells an id.
        """
        if self.length not in (None, len(compact)):
            return None
        spellings = (compact,) if is_joined and not self.ignores_case else (compact, compact.upper())
        for spelling in dict.fromkeys((*spellings, *((compact.lower(),) if len(spellings) > 1 else ()))):
            if matches_whole(self.compact, spelling):
                return self._separated(spelling)
        return None

    def _separated(self, compact: str) -> str:
        written = compact
        for place, separator in reversed(self.separators or ()):
            written = written[:place] + separator + written[place:]
        return written if matches_whole(self.pattern, written) else compact


@lru_cache(maxsize=1_024)
def _shape(kind: str, pattern: str, ignores_case: bool) -> _Shape:
    kept: list[str] = []
    separators: list[tuple[int, str]] = []
    length, is_fixed = 0, True
    for part in _PART.findall(pattern):
        if part in _SEPARATORS:
            separators.append((length, part[-1]) if is_fixed else (-1, ""))
            continue
        kept.append(part)
        if part[0] == "{" and part[1:-1].isdigit():
            length += int(part[1:-1]) - 1
        elif part[0] in "{?|()":
            is_fixed = False
        else:
            length += 1
    places = tuple(separators) if (-1, "") not in separators and not set("|(") & set(pattern) else None
    return _Shape(kind, pattern, "".join(kept), places, length if is_fixed else None, ignores_case)


def _pattern_of(value: str) -> str | None:
    """Return a pattern of ids that are written as this one: its letters, and as many digits."""
    runs = re.findall(r"\d+|[A-Za-z]+|[^0-9A-Za-z]", value)
    digits = [run for run in runs if run.isdigit()]
    if not digits or len(value) > _MOST_CHARACTERS or len(runs) > 9:
        return None
    has_letters = any(run.isalpha() for run in runs)
    said: list[str] = []
    for run in runs:
        if run.isdigit():
            count = len(run)
            # "C-1044" and "C-10445" are of one system; a number alone has its length.
            widest = has_letters and len(digits) == 1 and count >= _LEAST_DIGITS
            said.append(rf"\d{{{count - 1},{count + 2}}}" if widest else rf"\d{{{count}}}")
        else:
            said.append(run if run.isalnum() else rf"\{run}")
    return "".join(said)


def named_ids(
    question: str, *, patterns: Mapping[str, Sequence[str]], context: CareContext | None
) -> list[NamedId]:
    """Return the ids that a question names, each once: those of the context first.

    ``patterns``: by kind, of the parameters that have ids of the context. The ids of the context say too how
    ids of their kinds are written.
    """
    return _Finder(patterns, context).found(question)


def context_ids(context: CareContext, kind: str) -> Sequence[str]:
    """Return the context's ids of a kind; the customer's own are among those of ``customer``."""
    ids = context.ids.get(kind, ())
    return (context.customer, *ids) if kind == "customer" else ids


def compact(text: str) -> str:
    """Return the letters and digits of an id, folded: "pt204417" for "PT-204417"."""
    return "".join(character for character in text if character.isalnum()).casefold()


class _Finder:
    def __init__(self, patterns: Mapping[str, Sequence[str]], context: CareContext | None) -> None:
        kinds = () if context is None else dict.fromkeys(("customer", *context.ids))
        self._own: dict[str, list[tuple[str, str]]] = {}
        """By compact id: kind and id, of the context."""
        for kind in kinds:
            for value in context_ids(context, kind) if context is not None else ():
                self._own.setdefault(compact(value), []).append((kind, value))
        written = {
            (kind, pattern, False): None for kind, several in patterns.items() for pattern in several
        } | {
            (kind, pattern, True): None
            for several in self._own.values()
            for kind, value in several
            if (pattern := _pattern_of(value)) is not None
        }
        self._shapes = [_shape(*each) for each in list(written)[:_MOST_SHAPES]]
        self._cues = {
            word: kind
            for kind in (*patterns, *kinds)
            for word in (*kind.split("_"), *_SYNONYMS.get(kind, ()))
        }
        self._first_kind = next(iter(patterns), "customer")
        self._found: dict[NamedId, None] = {}

    def found(self, question: str) -> list[NamedId]:
        text = self._without_exact(plain(question))
        text = _L_FOR_1.sub("1", _O_FOR_0.sub("0", text))
        text = _NO_IDS.sub(self._no_id, text)
        text = self._without_joined(text, own=True)
        text = self._without_joined(text, own=False)
        self._add_cued(text)
        return sorted(self._found, key=lambda one: not one.is_own)

    # Words as they are written

    def _without_exact(self, text: str) -> str:
        for word in dict.fromkeys(words_of(text)):
            if self._is_own(word) or any(self._is_other(shape, word) for shape in self._shapes):
                text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", _BREAK, text)
        return text

    def _is_own(self, word: str) -> bool:
        """Note an id of the context in the context's spelling, case apart."""
        own = [
            (kind, value)
            for kind, value in self._own.get(compact(word), ())
            if value.casefold() == word.casefold()
        ]
        self._note_own(own)
        return bool(own)

    def _is_other(self, shape: _Shape, word: str) -> bool:
        if not shape.fits(word) or not any(character.isdigit() for character in word):
            return False
        self._note(shape.kind, word)
        return True

    def _note_own(self, own: Iterable[tuple[str, str]]) -> None:
        self._found |= {NamedId(kind, value, True): None for kind, value in own}

    def _note(self, kind: str, value: str) -> None:
        if own := self._own.get(compact(value)):
            self._note_own(own)
        elif all(compact(one.value) != compact(value) for one in self._found):
            self._found[NamedId(kind, value[:_LONGEST_VALUE], False)] = None

    # Other spellings

    def _no_id(self, number: re.Match[str]) -> str:
        """Return a break for a number that is no id, or itself where the words before name it."""
        is_named = number["unnamed"] is not None and self._cue(number.string[: number.start()])
        return number[0] if is_named else _BREAK

    def _without_joined(self, text: str, *, own: bool) -> str:
        """Note the ids whose separators are others, or none, and return the text without them."""
        runs = list(_RUN.finditer(text))[: 2 * _MOST_WORDS]
        taken: list[tuple[int, int]] = []
        start = 0
        while start < len(runs):
            end = self._joined_from(text, runs, start, own=own)
            if end is None:
                start += 1
                continue
            taken.append((runs[start].start(), runs[end].end()))
            start = end + 1
        for begin, end in reversed(taken):
            text = text[:begin] + _BREAK + text[end:]
        return text

    def _joined_from(self, text: str, runs: Sequence[re.Match[str]], start: int, *, own: bool) -> int | None:
        """Note the longest id that begins with a run; return its last run."""
        if not _begins(text, runs, start):
            return None
        best: int | None = None
        said, apart = "", False
        for end in range(start, min(start + 2 * _LEAST_CHARACTERS + 6, len(runs))):
            if end > start:
                between = text[runs[end - 1].end() : runs[end].start()]
                if len(between) > 3 or _BREAK in between or "\n" in between:
                    break
                if any(map(str.isspace, between)):
                    is_mixed = runs[end][0].isdigit() != runs[end - 1][0].isdigit()
                    if is_mixed and (runs[end][0].isalpha() or len(runs[end - 1][0]) < 2):
                        break  # "vitamin C 1000" is not "C-1000"
                    apart = apart or is_mixed
            said += runs[end][0]
            if len(said) > _MOST_CHARACTERS:
                break
            if _ends(text, runs, end) and self._is_id(said, apart=apart, own=own):
                best = end
        if best is not None:
            joined = "".join(run[0] for run in runs[start : best + 1])
            self._take(joined, own=own, apart=apart)
        return best

    def _is_id(self, said: str, *, apart: bool, own: bool) -> bool:
        if len(said) < _LEAST_CHARACTERS or sum(map(str.isdigit, said)) < _LEAST_DIGITS:
            return False
        if own:
            return said.casefold() in self._own
        return any(shape.respelled(said, is_joined=apart) is not None for shape in self._shapes)

    def _take(self, said: str, *, own: bool, apart: bool) -> None:
        if own:
            self._note_own(self._own[said.casefold()])
            return
        for shape in self._shapes:
            if (value := shape.respelled(said, is_joined=apart)) is not None:
                self._note(shape.kind, value)
                return

    # Numbers behind "order", "patient", "#"

    def _add_cued(self, text: str) -> None:
        """Note numbers that the words before call an id: "order 848557"."""
        runs = list(_RUN.finditer(text))[: 2 * _MOST_WORDS]
        for place, run in enumerate(runs):
            if not run[0].isdigit() or (
                place and _are_near(text, runs[place - 1], run) and runs[place - 1][0].isdigit()
            ):
                continue
            before = text[: run.start()]
            kind = self._cue(before)
            if kind is None and (sign := _SIGN.search(before)) is not None:
                kind = self._first_kind if (sign[1] or "the").casefold() in _SIGN_AFTER else None
            if kind is None:
                continue
            end = place
            while (
                end + 1 < len(runs)
                and runs[end + 1][0].isdigit()
                and _are_near(text, runs[end], runs[end + 1])
            ):
                end += 1
            digits = "".join(each[0] for each in runs[place : end + 1])
            if len(digits) >= _LEAST_DIGITS and not _YEAR.fullmatch(digits):
                self._note_part(kind, digits, text[run.start() : runs[end].end()])

    def _cue(self, before: str) -> str | None:
        """Return the kind that the last word before a number names, apart from "number" and alike."""
        found = _CUE.search(before[-80:])
        word = "" if found is None else found[1].casefold()
        return self._cues.get(word) or self._cues.get(word.removesuffix("s"))

    def _note_part(self, kind: str, digits: str, said: str) -> None:
        """Note the id of the context that ends or begins with these digits, else another."""
        parts = {
            (each, value)
            for own, several in self._own.items()
            for each, value in several
            if each == kind and (own.endswith(digits) or own.startswith(digits))
        }
        if len(parts) == 1:
            self._note_own(parts)
        elif not parts:
            self._note(kind, "".join(said.split()))


def _begins(text: str, runs: Sequence[re.Match[str]], at: int) -> bool:
    """Return whether a run is the beginning of what is written together."""
    if at == 0:
        return True
    between = text[runs[at - 1].end() : runs[at].start()]
    before, run = runs[at - 1][0], runs[at][0]
    if not between:  # "order8485", not the middle of "1Z999AA1012"
        return before.isalpha() and (at < 2 or runs[at - 2].end() < runs[at - 1].start())
    return not (set(between) <= _TIGHT and before.isdigit() and run.isdigit())


def _ends(text: str, runs: Sequence[re.Match[str]], at: int) -> bool:
    """Return whether a run is the end of what is written together."""
    if at + 1 >= len(runs):
        return True
    between = text[runs[at].end() : runs[at + 1].start()]
    after, run = runs[at + 1][0], runs[at][0]
    if not between:
        return after.isalpha() and (at + 2 >= len(runs) or runs[at + 1].end() < runs[at + 2].start())
    return not (set(between) <= _TIGHT and after.isdigit() and run.isdigit())


def _are_near(text: str, first: re.Match[str], second: re.Match[str]) -> bool:
    between = text[first.end() : second.start()]
    return len(between) <= 2 and _BREAK not in between and "\n" not in between


def plain(question: str) -> str:
    """Return a question with ASCII digits and dashes, and without invisible characters."""
    text = _DASHES.sub("-", unicodedata.normalize("NFKC", question))
    if not text.isascii():
        text = "".join(
            str(unicodedata.decimal(each)) if each.isdecimal() else each
            for each in text
            if unicodedata.category(each) not in ("Cf", "Mn", "Me")
        )
    return text


def words_of(plain_question: str) -> Iterator[str]:
    """Yield the words that could be values, each without the punctuation around it; parts of "a/b" too."""
    for number, piece in enumerate(_BETWEEN.split(plain_question)):
        if number >= _MOST_WORDS:
            return
        for word in dict.fromkeys((piece, *(piece.split("/") if "/" in piece else ()))):
            bare = word.lstrip(_BEFORE).rstrip(_AFTER)
            if bare and len(bare) <= _LONGEST_VALUE:
                yield bare
