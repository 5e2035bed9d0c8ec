"""Values of a request's parameters: from the context, else from the question. Never guessed.

An operation with the parameter ``order_id`` (context = "order", pattern ``\\d{4}-\\d{4}``), in a context with
the order 8485-5790:

    "Where is the order?"                 8485-5790: the context's only one
    "Is 84855790 shipped?"                8485-5790: an id of the context counts however it is typed
    "Is order 1111-2222 shipped?"         NOT_ALLOWED: it has the pattern, and the context does not have it
    "Is order 111122 shipped?"            PARAMETER_MISSING: no pattern finds this number, so the agent is
                                          asked, and nothing of the context is shown in its place
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NoReturn

from assistant.domain.identity import CareContext
from assistant.domain.live import Caller, ElementProblem, LiveReadError
from assistant.options.live.connector import Operation, OperationParameter, matches_whole
from assistant.text.language import fold, quantities
from assistant.text.values import digits_of, is_dea_number, is_npi, moments_of, passes_luhn

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
_DASHES = re.compile("[\u2010-\u2015\u2212\u00ad]")
_BETWEEN = re.compile(r"[\s,;]+")
"""Between two words."""
# Punctuation before and after a word, which does not belong to it: ("8485-5790").
_BEFORE, _AFTER = "#([{<\"'\u201c\u2018", ".,;:!?)]}>\"'\u201d\u2019"
_NUMBER = re.compile(r"\d+(?:(?:[^\w\n]|_| [-./:] )\d+)*")
"""A number with separators between its digits: "848-557 90", "8485 - 5790"."""
_LONG_RUN, _MANY_DIGITS = 4, 6
"""Digits in a row, or in all, from which a number may be an id or a part of one. "30/90" is none."""
_LARGEST_AMOUNT = 99_999
"""Of "1,200 mg". A larger number is an id, whatever follows it: "84855790 days late"."""
_PRICE = re.compile(r"[$\u20ac\u00a3\u00a5] ?\d[\d,.]*")
_YEAR = re.compile(r"(?:19|20)\d\d")


@dataclass(frozen=True, slots=True)
class FoundParameters:
    """The values of one request."""

    values: Mapping[str, str]
    """By the parameter's name."""
    about: str
    """The values as agents see them: "order 4471-2208, patient PT-204417"."""


def id_patterns(operations: Iterable[Operation]) -> Sequence[tuple[str, str]]:
    """Return kind and pattern of the parameters with a ``context``: [("order", "\\d{4}-\\d{4}")]."""
    parameters = (parameter for operation in operations for parameter in operation.parameters)
    return [(each.context, each.pattern) for each in parameters if each.context and each.pattern]


def find_parameters(
    operation: Operation,
    caller: Caller,
    *,
    context_decides: bool,
    patterns: Sequence[tuple[str, str]] | None = None,
) -> FoundParameters:
    """Return the values of a request, for the caller's context and question.

    With ``context_decides`` the ids of a personal operation come from the context; an id in the question only
    chooses among them. Without it, the system decides by the agent, and a word of the question is enough.
    ``patterns``: of all ids of the system (``id_patterns``), by default of the operation's.
    Raises LiveReadError: NOT_ALLOWED where the question names an id of any kind that the context does not
    have, PARAMETER_MISSING with the words to ask for.
    """
    is_bound = operation.personal and context_decides
    text = plain(caller.question)
    words = list(words_of(text))
    ids = NamedIds(patterns or id_patterns([operation]), caller.context)
    named, unknown = ids.found(text) if operation.personal else ([], [])
    if is_bound:
        _check_own(operation, named, context=caller.context)
    if unknown:
        _ask_about(unknown[0], operation)
    values_found: dict[str, str] = {}
    missing: list[str] = []
    shown: list[str] = []
    for parameter in operation.parameters:
        of_kind = [each.value for each in named if each.kind == parameter.context and parameter.question]
        asked = [word for word in words if parameter.question and is_value(parameter, word)]
        own = context_ids(caller.context, parameter.context)
        if is_bound and parameter.context:
            chosen = of_kind or own
        else:  # what the question names, in the context's spelling
            spelled = {id_.casefold(): id_ for id_ in own}
            values = (spelled.get(word.casefold(), word) for word in (*asked, *of_kind))
            chosen = list(dict.fromkeys(filter(partial(is_value, parameter), values))) or own
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


def _ask_about(number: str, operation: Operation) -> NoReturn:
    """Raise LiveReadError (PARAMETER_MISSING) for a number that may be another id than the context's."""
    words = " or ".join(dict.fromkeys(each.words for each in operation.parameters if each.question))
    known = f"Give the {words}, or ask without {number}." if words else f"Ask without {number}."
    raise LiveReadError(
        ElementProblem.PARAMETER_MISSING, f"The question names {number}, which is no known id. {known}"
    )


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
    labels = {parameter.context: parameter.shown_as for parameter in operation.parameters}
    about = ", ".join(
        f"{labels.get(other.kind, other.kind.replace('_', ' '))} {other.value}" for other in others[:3]
    )
    raise LiveReadError(
        ElementProblem.NOT_ALLOWED,
        f"{about} {'is' if len(others) == 1 else 'are'} not of this conversation's customer.",
        about=about,
        others=tuple((other.kind, other.value) for other in others),
    )


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
    """Return whether a word has the pattern and the check digit of a parameter."""
    if not _VISIBLE.fullmatch(word) or set(word) <= {"."}:  # dots alone would lead to another path
        return False
    return (parameter.pattern is None or matches_whole(parameter.pattern, word)) and _CHECKS[parameter.check](
        word
    )


def context_ids(context: CareContext | None, kind: str | None) -> Sequence[str]:
    """Return the context's ids of a kind, each once; for the kind ``customer`` the context's customer is
    first."""
    if context is None or kind is None:
        return ()
    ids = context.ids.get(kind, ())
    return list(dict.fromkeys((context.customer, *ids) if kind == "customer" else ids))


# --- ids that a question names ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class NamedId:
    """An id that a question names."""

    kind: str
    """Kind of id of the context: "order"."""
    value: str
    """In the spelling of the context, or of the question."""
    is_own: bool
    """Whether it is one of the context's."""


class NamedIds:
    """Finds the ids that a question names: those of the context, and words with a pattern of ``id_patterns``.

    found("Where are 44712208, so12345 and 848-557?")
    # [NamedId("order", "4471-2208", True), NamedId("account", "SO12345", False)], ["848-557"]
    """

    def __init__(self, patterns: Sequence[tuple[str, str]], context: CareContext | None) -> None:
        self._patterns = patterns
        self._own: dict[str, list[NamedId]] = {}
        """The context's ids by their letters and digits; several where it has one of two kinds."""
        for kind in () if context is None else dict.fromkeys(("customer", *context.ids)):
            for value in context_ids(context, kind):
                self._own.setdefault(_compact(value), []).append(NamedId(kind, value, is_own=True))

    def found(self, text: str) -> tuple[list[NamedId], list[str]]:
        """Return the ids, each once, and the numbers that may be another id or a part of one.

        ``text``: the question, ``plain``. Dates, telephone numbers, years and amounts are no such numbers.
        """
        ids: dict[NamedId, None] = {}
        for word in dict.fromkeys(words_of(text)):
            if named := self._own.get(_compact(word)) or self._with_pattern(word):
                ids.update(dict.fromkeys(named))
                text = re.sub(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", "\n", text)
        _, text = moments_of(_PRICE.sub(" ", fold(text)), stored=False)
        amounts = {value for value, _ in quantities(text).measures if float(value) <= _LARGEST_AMOUNT}
        unknown: list[str] = []
        for number in dict.fromkeys(_NUMBER.findall(text)):
            digits = digits_of(number)
            longest = max(map(len, re.findall(r"\d+", number)))
            if longest < _LONG_RUN and len(digits) < _MANY_DIGITS:
                continue
            if named := self._own_with(digits):
                ids.update(dict.fromkeys(named))
            elif not _YEAR.fullmatch(number) and not amounts.issuperset(quantities(number).values or "?"):
                unknown.append(number)
        return list(ids), unknown

    def _own_with(self, digits: str) -> list[NamedId]:
        """Return the context's id that has these digits, or begins or ends with them; none where several
        do."""
        parts = [
            own_ids
            for letters_and_digits, own_ids in self._own.items()
            if letters_and_digits.startswith(digits) or letters_and_digits.endswith(digits)
        ]
        exact = [own_ids for own_ids in parts if digits_of(own_ids[0].value) == digits]
        chosen = exact or parts
        return chosen[0] if len(chosen) == 1 else []

    def _with_pattern(self, word: str) -> list[NamedId]:
        """Return the id that a word is by its pattern, in any case; the first kind's where several fit."""
        if not any(map(str.isdigit, word)):
            return []
        spellings = dict.fromkeys((word, word.upper(), word.lower()))
        fitting = (
            NamedId(kind, spelled, is_own=False)
            for kind, pattern in self._patterns
            for spelled in spellings
            if matches_whole(pattern, spelled)
        )
        return list(fitting)[:1]


def _compact(text: str) -> str:
    """Return the letters and digits of an id, folded: "pt204417" for "PT-204417"."""
    return "".join(character for character in text if character.isalnum()).casefold()


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
