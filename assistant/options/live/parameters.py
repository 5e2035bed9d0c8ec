"""Values of a request's parameters: from the context, else from words of the question. Never guessed.

A question that names an id is about that id, however it is typed: "8485-5790", "84855790", "nr. 8485 5790".
Where the context does not have it, nothing of the context may be shown in its place.

An operation with the parameter ``order_id`` (context = "order", pattern ``\\d{4}-\\d{4}``), in a context with
the order 8485-5790:

    "Where is the order?"             8485-5790: the context's only one
    "Is 84855790 shipped?"            8485-5790: the same id without its separator
    "Is order 1111-2222 shipped?"     NOT_ALLOWED: it is not the context's

A word is *own* if it is an id of the context. A *compact* id has neither separators nor capitals. A *shape*
is how ids of a kind are written; a *cue* is the word before a number that says what it is: "order 848557".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from assistant.domain.identity import CareContext
from assistant.domain.live import Caller, ElementProblem, LiveReadError
from assistant.options.live.connector import Operation, OperationParameter, matches_whole
from assistant.text.values import digits_of, is_dea_number, is_npi, passes_luhn

_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")
"""A word of printable ASCII without spaces."""
_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "none": lambda _: True,
    "npi": is_npi,
    "dea": is_dea_number,
    "luhn": lambda value: passes_luhn(digits_of(value)),
}


_COUNTS: Mapping[int, str] = {2: "two", 3: "three", 4: "four"}
_LONGEST_VALUE = 128
"""Characters of a word that may be a value."""
_MOST_WORDS = 2_000
"""Words of a question that are read, so that time has a bound."""
_MOST_SHAPES = 40
"""Spellings of ids that are looked for; a connector and a context have fewer than ten."""
_LEAST_CHARACTERS, _LEAST_DIGITS = 5, 4
"""The least of an id that is typed with other separators than its pattern has: "4" and "2-4" are counts."""
_MOST_CHARACTERS = 48
"""Characters of an id that is typed with other separators."""
_MOST_RUNS = 16
"""Runs of digits and of letters in such an id: "RX 7301 842" has three."""
_DASHES = re.compile("[\u2010-\u2015\u2212\u00ad]")
_BETWEEN = re.compile(r"[\s,;]+")
"""Between two words."""
# Punctuation before and after a word, which does not belong to it: ("8485-5790").
_BEFORE, _AFTER = "#([{<\"'\u201c\u2018", ".,;:!?)]}>\"'\u201d\u2019"
_BREAK = "\x01"
"""Replaces what is read already in the question's text: nothing is joined across it."""
_RUN = re.compile(r"(\d+|[^\W\d_]+)")
"""Digits alone or letters alone: "PT-204417" has two runs."""
_NUMBER = re.compile(r"\d+(?:(?:[^\w\n\x01]|_){1,2}\d+)*")
"""A number with one or two separators between its digits: "848-557 90"."""
_TIGHT = frozenset("-._:'\u2019~=")
"""Separators that join digits to one number: the "3456" of "12-3456" is no id by itself."""
# Letters typed for digits: "84O5" is 8405, "8l5" is 815.
_O_FOR_0 = re.compile(r"(?<=\d)[oO](?![^\W\d_])|(?<=\d-)[oO](?=\d)")
_L_FOR_1 = re.compile(r"(?<=\d)[lI](?=\d)")
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]{0,6}\.?"
_DAY = r"\d{1,2}(?:st|nd|rd|th)?"
_UNIT = (
    r"mg|mcg|g|kg|ml|l|iu|units?|tablets?|pills?|capsules?|doses?|refills?|boxes|items?|"
    r"minutes?|hours?|days?|weeks?|months?|years?|dollars?|percent"
)
# In this order: days in digits and by months' names, times, amounts of money, quantities with a unit; then,
# in the group "unnamed", numbers with thousands and telephone numbers, which a cue makes ids; then numbers
# after a word such as "phone" or "lot".
_NO_IDS = re.compile(
    rf"""(?<![\w-])(?:
        (?:19|20)\d\d-(?:0?[1-9]|1[0-2])-(?:0?[1-9]|[12]\d|3[01])
      | (?:0?[1-9]|[12]\d|3[01])(?P<sep>[/.-])(?:0?[1-9]|[12]\d|3[01])(?P=sep)(?:(?:19|20)\d\d|\d\d)
    )(?![\w-])
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
"""Numbers that are no ids: "2026-11-20", "Nov 20", "14:30", "$12.50", "20 mg", "lot 4455". Those of the group
``unnamed`` are ids after a cue: "order 848-557-9012"."""
# Kind of id = other words for it in a question.
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
"""At the end of the text before a number, the cue, with words such as "number" after it: "order no. is ".
The first group is the cue."""
_SIGN = re.compile(r"(?:^|([^\W\d_]{1,30})\s{0,3})#\s?$")
_SIGN_AFTER = frozenset(
    ("is", "of", "for", "about", "with", "and", "the", "her", "his", "my", "their", "on", "to")
)
"""Words before a "#" after which it stands for the system's first kind of id: "what about #8485"."""
_YEAR = re.compile(r"(?:19|20)\d\d")
# One part of a connector's pattern: an escaped character, a class, a count, or a character.
_PART = re.compile(r"\\.|\[\^?\]?[^\]]{0,200}\]|\{[^}]{0,8}\}|.", re.DOTALL)
_SEPARATORS = frozenset(("-", "_", "/", " ", ":", r"\-", r"\_", r"\/", r"\ ", r"\.", r"\:"))
"""Parts of a pattern that are separators; a bare dot is any character, and is none."""


@dataclass(frozen=True, slots=True)
class FoundParameters:
    """The values of one request."""

    values: Mapping[str, str]
    """By the parameter's name."""
    about: str
    """The values as agents see them: "order 4471-2208, patient PT-204417"."""


def id_patterns(operations: Iterable[Operation]) -> Mapping[str, Sequence[str]]:
    """Return patterns by kind of id, of the parameters with a ``context``: {"order":
    ["\\d{4}-\\d{4}"]}."""
    patterns: dict[str, list[str]] = {}
    for each in (parameter for operation in operations for parameter in operation.parameters):
        if each.context is not None:
            patterns.setdefault(each.context, []).extend([each.pattern] if each.pattern is not None else [])
    return patterns


def find_parameters(
    operation: Operation,
    caller: Caller,
    *,
    context_decides: bool,
    patterns: Mapping[str, Sequence[str]] | None = None,
) -> FoundParameters:
    """Return the values of a request, for the caller's context and question.

    With ``context_decides`` the ids of a personal operation come from the context; an id in the question only
    chooses among them. Without it, the system decides by the agent, and a word of the question is enough.
    ``patterns``: patterns of all ids of the system by kind (``id_patterns``), by default of the operation's.
    Raises LiveReadError: NOT_ALLOWED where the question names an id of any kind that the context does not
    have, PARAMETER_MISSING with the words to ask for.
    """
    is_bound = operation.personal and context_decides
    words = list(words_of(plain(caller.question)))
    named: Sequence[NamedId] = ()
    if operation.personal:
        known = patterns or id_patterns([operation])
        named = NamedIds(known, caller.context).found(caller.question)
    if is_bound:
        _check_own(operation, named, context=caller.context)
    values_found: dict[str, str] = {}
    missing: list[str] = []
    shown: list[str] = []
    for parameter in operation.parameters:
        of_kind = [
            named_id for named_id in named if named_id.kind == parameter.context and parameter.question
        ]
        asked = [word for word in words if parameter.question and is_value(parameter, word)]
        ids = context_ids(caller.context, parameter.context)
        if is_bound and parameter.context:
            chosen = [named_id.value for named_id in of_kind] or ids
        else:
            chosen = _free(asked, of_kind, ids, parameter)
        if len(chosen) == 1 and is_value(parameter, chosen[0]):
            values_found[parameter.name] = chosen[0]
            shown.append(f"{parameter.shown_as} {chosen[0]}")
        elif parameter.required or len(chosen) > 1:
            missing.append(_question_back(parameter, named=len(chosen) if asked or of_kind else 0))
    about = ", ".join(shown)[:500]
    if missing:
        raise LiveReadError(ElementProblem.PARAMETER_MISSING, " ".join(missing), about=about)
    return FoundParameters(values_found, about)


def _question_back(parameter: OperationParameter, *, named: int) -> str:
    """Return what to ask the agent for: "Which order? Give the order number.".

    ``named``: number of values that the question names.
    """
    label, words = parameter.label, parameter.words
    if named > 1:
        return f"Give one {words}: the question names {_COUNTS.get(named, 'several')}."
    return f"Which {label}? Give the {words}." if label and label != words else f"Give the {words}."


def _check_own(operation: Operation, named: Sequence[NamedId], *, context: CareContext | None) -> None:
    """Raise LiveReadError (NOT_ALLOWED) without a context, and where the question names an id that the
    context does not have.

    ``named``: all ids of the question, of any kind.
    """
    if context is None:
        raise LiveReadError(
            ElementProblem.NOT_ALLOWED,
            "These are a customer's data. Ask from the customer's conversation in the care application.",
        )
    others = [named_id for named_id in named if not named_id.is_own]
    if not others:
        return
    labels = {
        parameter.context: parameter.shown_as
        for parameter in operation.parameters
        if parameter.context is not None
    }
    about = ", ".join(
        f"{labels.get(other.kind, other.kind.replace('_', ' '))} {other.value}" for other in others[:3]
    )
    raise LiveReadError(
        ElementProblem.NOT_ALLOWED,
        f"{about} {'is' if len(others) == 1 else 'are'} not of this conversation's customer.",
        about=about,
        others=tuple((other.kind, other.value) for other in others),
    )


def is_enough(operation: Operation, word: str) -> bool:
    """Return whether one word of a question is all that a request needs."""
    required = [parameter for parameter in operation.parameters if parameter.required]
    return len(required) == 1 and required[0].question and is_value(required[0], word)


def _free(
    asked: Sequence[str], of_kind: Sequence[NamedId], ids: Sequence[str], parameter: OperationParameter
) -> Sequence[str]:
    """Return a parameter's possible values where the context does not decide: those that the question names,
    in the context's spelling, else the context's ids.

    ``asked``: words of the question that are values. ``of_kind``: ids of the parameter's kind that it names.
    ``ids``: the context's. Empty where the question names an id of this kind that is no value ("order 848"):
    the context's id is another one.
    """
    spelled = {id_.casefold(): id_ for id_ in ids}
    values = [spelled.get(word.casefold(), word) for word in asked]
    values += [named_id.value for named_id in of_kind if is_value(parameter, named_id.value)]
    return list(dict.fromkeys(values)) or ([] if of_kind else ids)


def asked_id(operation: Operation, values: Mapping[str, str]) -> tuple[str, str] | None:
    """Return kind and value of the id that says most about whose data a request reads: ("order",
    "4471-2208").

    That is the first parameter with a kind of the context, else the first one that a result must equal, else
    the first one. None without any.
    """
    compared = {result.same_as for result in operation.results}
    ranked = sorted(
        (parameter for parameter in operation.parameters if parameter.name in values),
        key=lambda each: (each.context is None, each.name not in compared),
    )
    return next(((candidate.context or candidate.name, values[candidate.name]) for candidate in ranked), None)


def is_value(parameter: OperationParameter, word: str) -> bool:
    """Return whether a word has the pattern, type and check digit of a parameter."""
    if not _VISIBLE.fullmatch(word) or set(word) <= {"."}:  # dots alone would lead to another path
        return False
    if parameter.pattern is not None and not matches_whole(parameter.pattern, word):
        return False
    if parameter.type == "integer" and not (word.isdigit() and len(word) <= 18):
        return False
    if parameter.type == "date" and not is_iso_date(word):
        return False
    return _CHECKS[parameter.check](word)


def is_iso_date(word: str) -> bool:
    """Return whether a word is a day written as "2026-11-24"; other spellings of ISO 8601 are refused."""
    try:
        return date.fromisoformat(word).isoformat() == word
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
    """How ids of one kind are written, from a connector's pattern or from an id of the context.

    For the pattern ``\\d{4}-\\d{4}``: compact ``\\d{4}\\d{4}``, separators ((4, "-"),), length 8.
    """

    kind: str
    pattern: str
    compact: str
    """The pattern without separators."""
    separators: tuple[tuple[int, str], ...]
    """Place in a compact id, and separator; none where the places depend on the id."""
    length: int | None
    """Characters of a compact id; None where that depends on the id."""
    ignores_case: bool
    """Whether upper and lower case are tried too."""

    def respelled(self, compact: str, *, is_apart: bool) -> str | None:
        """Return a compact id with the separators of its pattern; None where it does not fit.

        "84855790" becomes "8485-5790". ``is_apart``: there was a space between letters and digits, as in "rx
        7301", so case is only ignored if the shape does: otherwise words and numbers would look like ids.
        """
        if self.length not in (None, len(compact)):
            return None
        spellings = [compact]
        if self.ignores_case or not is_apart:
            spellings += [compact.upper(), compact.lower()]
        fitting = next((spelling for spelling in spellings if matches_whole(self.compact, spelling)), None)
        if fitting is None:
            return None
        written = fitting
        for place, separator in reversed(self.separators):
            written = written[:place] + separator + written[place:]
        return written if matches_whole(self.pattern, written) else fitting


@lru_cache(maxsize=1_024)
def _shape(kind: str, pattern: str, ignores_case: bool) -> _Shape:
    """Return the shape of a pattern: its parts without separators, whose places are counted while each part
    before has a fixed length."""
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
    if (-1, "") in separators or set("|(") & set(pattern):
        separators = []
    fixed_length = length if is_fixed else None
    return _Shape(kind, pattern, "".join(kept), tuple(separators), fixed_length, ignores_case)


def _pattern_of(value: str) -> str | None:
    """Return a pattern of ids that are written as this one: "PT-204417" gives ``PT\\-\\d{5,8}``, "4471-2208"
    gives ``\\d{4}\\-\\d{4}``. None for an id without digits."""
    numbers = re.findall(r"\d+", value)
    if not numbers or len(value) > _MOST_CHARACTERS:
        return None
    # "C-1044" and "C-10445" are of one system; a number alone has its length.
    varies = len(numbers) == 1 and len(numbers[0]) >= _LEAST_DIGITS and any(map(str.isalpha, value))

    def as_many(digits: re.Match[str]) -> str:
        count = len(digits[0])
        return rf"\d{{{count - 1},{count + 2}}}" if varies else rf"\d{{{count}}}"

    return re.sub(r"\d+", as_many, re.escape(value))


def context_ids(context: CareContext | None, kind: str | None) -> Sequence[str]:
    """Return the context's ids of a kind, each once; for the kind ``customer`` the context's customer is
    first."""
    if context is None or kind is None:
        return ()
    ids = context.ids.get(kind, ())
    return list(dict.fromkeys((context.customer, *ids) if kind == "customer" else ids))


def compact(text: str) -> str:
    """Return the letters and digits of an id, folded: "pt204417" for "PT-204417"."""
    return "".join(character for character in text if character.isalnum()).casefold()


_Read = Callable[[str, bool], Sequence[NamedId]]
"""Returns the ids that a text of letters and digits is, as typed but without separators. The flag: whether a
space was between letters and digits. Several ids where the context has the same one of several kinds."""


class NamedIds:
    """Finds the ids that one question names. Make a new one for each question.

    ``patterns``: patterns of ids by kind (``id_patterns``). The context's ids tell too how ids of their kinds
    are written.
    """

    def __init__(self, patterns: Mapping[str, Sequence[str]], context: CareContext | None) -> None:
        kinds = () if context is None else dict.fromkeys(("customer", *context.ids))
        own_ids = [
            NamedId(kind, value, is_own=True) for kind in kinds for value in context_ids(context, kind)
        ]
        self._own: dict[str, list[NamedId]] = {}
        """The context's ids by compact id."""
        for own_id in own_ids:
            self._own.setdefault(compact(own_id.value), []).append(own_id)
        spellings = [(kind, pattern, False) for kind, of_kind in patterns.items() for pattern in of_kind]
        for own_id in own_ids:
            if (pattern := _pattern_of(own_id.value)) is not None:
                spellings.append((own_id.kind, pattern, True))
        self._shapes = [_shape(*spelling) for spelling in list(dict.fromkeys(spellings))[:_MOST_SHAPES]]
        self._cues = {
            word: kind
            for kind in (*patterns, *kinds)
            for word in (*kind.split("_"), *_SYNONYMS.get(kind, ()))
        }
        # ``_cues``: word of a question = the kind that it names; ``_first_kind``: the kind that "#" names.
        self._first_kind = next(iter(patterns), "customer")
        self._found_own: dict[NamedId, None] = {}
        self._others: dict[str, NamedId] = {}
        """Ids that were found and are not the context's, by compact id; ``_found_own`` has those that are."""

    def found(self, question: str) -> list[NamedId]:
        """Return the ids, each once: those of the context first.

        Each step takes what it found out of the text, so that the next ones do not read it again:

        1. words that are ids as they are written;
        2. numbers that are no ids: dates, prices, telephone numbers;
        3. ids of the context with other separators, then other ids;
        4. numbers after a cue.
        """
        text = plain(question)
        for word in dict.fromkeys(words_of(text)):
            if ids := self._as_written(word):
                self._note(ids)
                text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", _BREAK, text)
        text = _L_FOR_1.sub("1", _O_FOR_0.sub("0", text))
        text = _NO_IDS.sub(self._no_id, text)
        text = self._without_joined(text, self._own_joined)
        text = self._without_joined(text, self._other_joined)
        for number in _NUMBER.finditer(text):
            self._note(self._cued(number))
        return [*self._found_own, *self._others.values()]

    def _note(self, ids: Iterable[NamedId]) -> None:
        for id_ in ids:
            if id_.is_own:
                self._found_own[id_] = None
            else:
                self._others.setdefault(compact(id_.value), id_)

    def _known(self, kind: str, value: str) -> Sequence[NamedId]:
        """Return the context's ids with the letters and digits of ``value``; if there is none, an id that is
        not the context's."""
        return self._own.get(compact(value)) or [NamedId(kind, value[:_LONGEST_VALUE], is_own=False)]

    def _as_written(self, word: str) -> Sequence[NamedId]:
        """Return the ids that a word is exactly as written; for ids of the context case does not matter."""
        matching = [
            own for own in self._own.get(compact(word), ()) if own.value.casefold() == word.casefold()
        ]
        if matching or not any(map(str.isdigit, word)):
            return matching
        fitting = (shape.kind for shape in self._shapes if matches_whole(shape.pattern, word))
        return next((self._known(kind, word) for kind in fitting), ())

    def _no_id(self, number: re.Match[str]) -> str:
        """Return the replacement of a match of ``_NO_IDS``: a break, or the number itself after a cue."""
        is_named = number["unnamed"] is not None and self._cue(number) is not None
        return number[0] if is_named else _BREAK

    # Other spellings

    def _without_joined(self, text: str, read: _Read) -> str:
        """Note the ids that are typed with other separators or none, and return the text without them.

        ``read``: ``_own_joined`` or ``_other_joined``.
        """
        # Runs are at odd indexes, what is between them at even ones.
        pieces = _RUN.split(f"{_BREAK}{text}{_BREAK}")
        at = 1
        while at < len(pieces):
            end, ids = _longest(pieces, at, read)
            if ids:
                self._note(ids)
                pieces[at : end + 1] = [_BREAK]
            at += 2
        return "".join(pieces)[1:-1]

    def _own_joined(self, written: str, _is_apart: bool) -> Sequence[NamedId]:
        return self._own.get(written.casefold(), ())

    def _other_joined(self, written: str, is_apart: bool) -> Sequence[NamedId]:
        for shape in self._shapes:
            if (value := shape.respelled(written, is_apart=is_apart)) is not None:
                return self._known(shape.kind, value)
        return ()

    # Numbers behind "order", "patient", "#"

    def _cued(self, number: re.Match[str]) -> Sequence[NamedId]:
        """Return the id of a number after a cue: "order 848557". Empty without a cue, and for a short number.

        It is the context's id of that kind which begins or ends with these digits; where several do, none is.
        Without any, it is an id that is not the context's.
        """
        kind = self._cue(number)
        digits = "".join(filter(str.isdigit, number[0]))
        if kind is None or len(digits) < _LEAST_DIGITS or _YEAR.fullmatch(digits):
            return ()
        parts = [
            own_id
            for compact_id, own_ids in self._own.items()
            for own_id in own_ids
            if own_id.kind == kind and (compact_id.startswith(digits) or compact_id.endswith(digits))
        ]
        if parts:
            return parts if len(parts) == 1 else ()
        return self._known(kind, "".join(number[0].split()))

    def _cue(self, number: re.Match[str]) -> str | None:
        """Return the kind that the words before a number name: "order" for "order no. ". None without a
        cue."""
        before = number.string[max(0, number.start() - 80) : number.start()]
        if match := _CUE.search(before):
            word = match[1].casefold()
            if kind := self._cues.get(word) or self._cues.get(word.removesuffix("s")):
                return kind
        sign = _SIGN.search(before)
        return self._first_kind if sign and (sign[1] or "the").casefold() in _SIGN_AFTER else None


def _longest(pieces: Sequence[str], start: int, read: _Read) -> tuple[int, Sequence[NamedId]]:
    """Return the longest ids that begin with the run at ``start``, after the index of their last run.

    ``pieces``: runs of digits or letters at odd indexes, the separators around them at even ones. Without an
    id, ``start`` and ().
    """
    best: tuple[int, Sequence[NamedId]] = (start, ())
    if not _is_edge(pieces, start, -1):
        return best
    written, is_apart = "", False
    for end in range(start, min(start + 2 * _MOST_RUNS, len(pieces)), 2):
        if end > start:
            before, between, run = pieces[end - 2 : end + 1]
            is_mixed = any(map(str.isspace, between)) and before.isdigit() != run.isdigit()
            is_other = len(between) > 3 or _BREAK in between or "\n" in between
            if is_other or (is_mixed and (run.isalpha() or len(before) < 2)):
                break  # "vitamin C 1000" is not "C-1000"
            is_apart = is_apart or is_mixed
        written += pieces[end]
        if len(written) > _MOST_CHARACTERS:
            break
        is_long = len(written) >= _LEAST_CHARACTERS and sum(map(str.isdigit, written)) >= _LEAST_DIGITS
        if is_long and _is_edge(pieces, end, 1) and (ids := read(written, is_apart)):
            best = (end, ids)
    return best


def _is_edge(pieces: Sequence[str], at: int, step: int) -> bool:
    """Return whether the run at ``at`` may begin (``step`` -1) or end (``step`` 1) an id, by what is beside
    it."""
    between = pieces[at + step]
    if not between:  # "order8485", not the middle of "1Z999AA1012"
        return pieces[at + 2 * step].isalpha() and pieces[at + 3 * step] != ""
    is_tight = set(between) <= _TIGHT
    return not (is_tight and pieces[at].isdigit() and pieces[at + 2 * step].isdigit())


def plain(question: str) -> str:
    """Return a question with ASCII digits and dashes, and without invisible characters."""
    text = _DASHES.sub("-", unicodedata.normalize("NFKC", question))
    if not text.isascii():
        text = "".join(
            str(unicodedata.decimal(character)) if character.isdecimal() else character
            for character in text
            if unicodedata.category(character) not in ("Cf", "Mn", "Me")
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
