"""Values of a request's parameters: from the context, else from words of the question. Never guessed."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from assistant.domain.elements import ElementProblem
from assistant.domain.live import CareContext
from assistant.live.ports import Caller, LiveReadError
from assistant.settings.connector import Operation, OperationParameter, matches_whole
from assistant.text.check_digits import digits_of, is_dea_number, is_npi, passes_luhn

_DASHES = re.compile("[\u2010-\u2015\u2212]")
_BETWEEN = re.compile(r"[\s,;]+")
_BEFORE, _AFTER = "#([{<\"'\u201c\u2018", ".,;:!?)]}>\"'\u201d\u2019"
_LONGEST_VALUE = 128
_MOST_WORDS = 2_000
_VISIBLE = re.compile(r"[\x21-\x7e]{1,128}")
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_CHECKS: Mapping[str, Callable[[str], bool]] = {
    "none": lambda _: True,
    "npi": is_npi,
    "dea": is_dea_number,
    "luhn": lambda value: passes_luhn(digits_of(value)),
}


@dataclass(frozen=True, slots=True)
class FoundParameters:
    """The values of one request."""

    values: Mapping[str, str]
    about: str
    """As shown: "order 4471-2208"."""


def find_parameters(operation: Operation, caller: Caller, *, context_decides: bool) -> FoundParameters:
    """Return the values of a request, for the caller's context and question.

    With ``context_decides`` the ids of a personal operation come from the context; an id in the question only
    chooses among them. Raises LiveReadError: NOT_ALLOWED where the context does not have it,
    PARAMETER_MISSING with the words to ask for.
    """
    words = list(_words(caller.question))
    found: dict[str, str] = {}
    missing: list[str] = []
    shown: list[str] = []
    is_bound = operation.personal and context_decides
    if is_bound and caller.context is None:
        raise LiveReadError(
            ElementProblem.NOT_ALLOWED,
            "These are a customer's data. Ask from the customer's conversation in the care application.",
        )
    for parameter in operation.parameters:
        asked = [word for word in words if parameter.question and is_value(parameter, word)]
        ids = _ids(parameter, caller.context)
        chosen = _bound(parameter, asked, ids) if is_bound and parameter.context else _free(asked, ids)
        if len(chosen) == 1 and is_value(parameter, chosen[0]):
            found[parameter.name] = chosen[0]
            shown.append(f"{parameter.shown_as} {chosen[0]}")
        elif parameter.required or len(chosen) > 1:
            missing.append(parameter.words)
    about = ", ".join(shown)[:500]
    if missing:
        asked_for = ", ".join(missing)
        raise LiveReadError(
            ElementProblem.PARAMETER_MISSING,
            f"Ask for: {asked_for}. Name exactly one in the question.",
            about=about,
            missing=tuple(missing),
        )
    return FoundParameters(found, about)


def is_enough(operation: Operation, word: str) -> bool:
    """Return whether one word of a question is all that a request needs."""
    required = [parameter for parameter in operation.parameters if parameter.required]
    return len(required) == 1 and required[0].question and is_value(required[0], word)


def _bound(parameter: OperationParameter, asked: Sequence[str], ids: Sequence[str]) -> Sequence[str]:
    """Return the ids of the context that the question chooses; all of them when it names none."""
    if not asked:
        return ids
    wanted = {word.casefold() for word in asked}
    chosen = [each for each in ids if each.casefold() in wanted]
    if not chosen:
        about = f"{parameter.shown_as} {asked[0]}"
        raise LiveReadError(
            ElementProblem.NOT_ALLOWED, f"{about} is not of this conversation's customer.", about=about
        )
    return chosen


def _free(asked: Sequence[str], ids: Sequence[str]) -> Sequence[str]:
    """Return what the question names, in the context's spelling; the context's ids when it names none."""
    spelled = {each.casefold(): each for each in ids}
    return list(dict.fromkeys(spelled.get(word.casefold(), word) for word in asked)) or ids


def _ids(parameter: OperationParameter, context: CareContext | None) -> Sequence[str]:
    if context is None or parameter.context is None:
        return ()
    return list(dict.fromkeys(context_ids(context, parameter.context)))


def context_ids(context: CareContext, kind: str) -> Sequence[str]:
    """Return the context's ids of a kind; the customer's own are among those of ``customer``."""
    ids = context.ids.get(kind, ())
    return (context.customer, *ids) if kind == "customer" else ids


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


def _words(question: str) -> Iterator[str]:
    """Yield the words that could be values, each without the punctuation around it; parts of "a/b" too."""
    plain = _DASHES.sub("-", unicodedata.normalize("NFKC", question))
    for number, piece in enumerate(_BETWEEN.split(plain)):
        if number >= _MOST_WORDS:
            return
        for word in dict.fromkeys((piece, *(piece.split("/") if "/" in piece else ()))):
            bare = word.lstrip(_BEFORE).rstrip(_AFTER)
            if bare and len(bare) <= _LONGEST_VALUE:
                yield bare
