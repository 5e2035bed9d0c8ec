"""Settings files in TOML: reading with errors that name file, line and key, and edits that keep layout."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Any, Self, TypeVar, cast, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError, create_model
from pydantic_core import CoreSchema

from assistant.domain.errors import ConfigurationError
from assistant.option import Place

ModelT = TypeVar("ModelT", bound=BaseModel)
KeyPath = tuple[str | int, ...]
"""A path of pydantic: ``("reach", 0, "service_name")``."""
SectionT = TypeVar("SectionT", bound="OpenSection")


RETIRED_KEYS: Mapping[str, str] = {
    "ASSISTANT_MODEL_MODE": "in 0.3.0: unset it; each answer is computed alone, as reproducible was",
    **dict.fromkeys(
        (
            *("gate.answered", "gate.possibly", "gate.min_cosine", "gate.min_coverage"),
            *("gate.right_sure", "gate.right_possible", "gate.wrong_possible", "gate.wrong_sure"),
        ),
        "in 0.3.0: without a model a section is found, or nothing is near. Delete the line; "
        "gate.hopeless_cosine says what is near (0.38 by default)",
    ),
    "answering.passages": "in 0.3.0: leave it out; a model reads whole documents, as many as its context and "
    "reads_tokens hold",
    "answering.prompt": 'in 0.3.0: the tenant file names the prompt, [answers] prompt = "answer/4", which is '
    "the default. Delete the line",
    "answers.condition_headings": "in 0.3.0: leave it out; a document's best section is shown with what "
    "stands around it",
    "answers.reading": "in 0.3.0: no model reads a message before its search. Delete the line",
    "knowledge": 'in 0.2.0: write [[sources]] with name = "knowledge", namespace = "" and the same paths '
    "instead",
    "learning.ranking": "in 0.3.0: ranking learns no more from what agents do. Delete the line",
    "prompt": 'in 0.3.0: [answers] prompt = "answer/4" names the prompt; history_turns and how the prompt is '
    "rendered come from the served model's manifest, table [answering]. Delete the section",
    "sources.default_labels": 'in 0.3.0: labels come from where access says. access = "folder" with folders '
    '= { "" = […] } and the same labels keeps the meaning; access = "everyone" that of an empty list',
}
"""Keys that a settings file of an earlier release may hold, and variables of its environment, with the
release that removed each, and what to do. Numbers of list entries are left out: ``sources.access``."""


class StrictModel(BaseModel):
    """A settings file, or a table of one: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class OpenSection(StrictModel):
    """A table to which options add keys, each with a subclass at the place ``keys of`` the table's class.

    What makes or validates one gets the class with the keys of all options that are here.

        class LabModels(ModelsSection):
            trials: bool = False
        OPTION = Option(joins={"keys of ModelsSection": "section:LabModels"})
        keys_of(tenant.models, LabModels).trials
    """

    model_config = ConfigDict(defer_build=True)  # options import the modules of the tables that they extend

    def __new__(cls, *_: object, **__: object) -> Self:
        return super().__new__(with_options(cls))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return handler(with_options(cls))


class KeyMark(Enum):
    """What is special about a key, in the metadata of its field."""

    NAMES_A_FILE = "It names another file, relative to the tenant file."
    OF_A_FILE = "It is filled in from another file when the tenant file is read."
    OF_THE_DEPLOYMENT = "The deployment writes it; no tenant file has it."
    DEPLOYMENT = "Only a deployment reads it; of reach also the service, where an entry is called."
    NO_ANSWER = "It shapes no answer: the hash of the settings leaves it out."


def marked(section: type[StrictModel], *marks: KeyMark) -> set[str]:
    """Return the keys of a table that have one of the marks."""
    fields = with_options(section).model_fields.items()
    return {name for name, field in fields if any(mark in field.metadata for mark in marks)}


def keys_of(section: OpenSection, kind: type[SectionT]) -> SectionT:
    """Return a table as the class of the option that reads its own keys there."""
    if not isinstance(section, kind):
        raise TypeError(f"{kind.__name__} joins no table {type(section).__name__}")
    return section


def with_options(kind: type[ModelT]) -> type[ModelT]:
    """Return the class with the keys that options add; ``kind`` itself where it is no table for them."""
    table = next((each for each in kind.__mro__ if OpenSection in each.__bases__), None)
    return kind if table is None else cast("type[ModelT]", _with_keys(table))


@cache
def _with_keys(table: type[OpenSection]) -> type[OpenSection]:
    joined = Place[type[OpenSection]](f"keys of {table.__name__}").joined()
    if not joined:
        return table
    return create_model(table.__name__, __base__=tuple(joined), __module__=table.__module__)


def read_strict(
    path: Path,
    kind: type[ModelT],
    *,
    complete: Callable[[dict[str, Any]], dict[str, Any]] = lambda data: data,
) -> ModelT:
    """Return the file as ``kind``. Raises ConfigurationError naming file, line, key and what is allowed.

    ``complete`` adds what another file says before the check, and may raise ConfigurationError.
    """
    if path.exists() and not path.is_file():  # a pipe would never end
        raise ConfigurationError(f"{path}: not a regular file. Put a TOML file there, or remove it.")
    try:
        text = path.read_text(encoding="utf-8")
        data = tomllib.loads(text)
    except FileNotFoundError:
        raise ConfigurationError(f"{path}: no such file.") from None
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigurationError(f"{path}: not valid TOML: nested too deeply.") from None
    try:
        # strict, so that true is not a number; through JSON, so that a list can be a tuple
        return with_options(kind).model_validate_json(json.dumps(complete(data), default=str), strict=True)
    except ValidationError as error:
        wrong = [_explain(item, kind=kind, text=text) for item in _first_causes(error.errors())]
        raise ConfigurationError(f"{path}: {'; '.join(wrong)}") from None


_OUR_CHECK = "Value error, "
_LONGEST_VALUE = 80


def _first_causes(errors: Sequence[Any]) -> list[Mapping[str, Any]]:
    """Return the errors without those of a list that is too short only because its items are wrong."""
    places = [tuple(item["loc"]) for item in errors]

    def follows(item: Mapping[str, Any]) -> bool:
        size = len(item["loc"])
        inside = any(len(place) > size and place[:size] == tuple(item["loc"]) for place in places)
        return item["type"] == "too_short" and inside

    return [item for item in errors if not follows(item)]


def _explain(item: Mapping[str, Any], *, kind: type[BaseModel], text: str) -> str:
    place: Sequence[str | int] = item["loc"]
    key = ".".join(str(part) for part in place)
    line = line_of(text, place)
    where = f"line {line}: " if line else ""
    if item["type"] == "extra_forbidden":
        retired = ".".join(part for part in place if isinstance(part, str))
        if retired in RETIRED_KEYS:
            return f"{where}{key} was removed {RETIRED_KEYS[retired]}"
        section = _section(kind, place[:-1])
        return f"{where}unknown key {key}; allowed here: {', '.join(sorted(section.model_fields))}"
    if item["type"] == "missing":
        return f"{where}{key} is needed"
    if item["type"] == "value_error":  # a check of ours, which names what is wrong
        message = item["msg"].removeprefix(_OUR_CHECK)
        return f"{where}{key}: {message}" if key else f"{where}{message}"
    return f"{where}{key or 'the file'}: {item['msg']} (got {_shortened(item['input'])})"


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"


def _section(kind: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """Return the class of the section at ``place``."""
    kind = with_options(kind)
    for part in place:
        annotation = kind.model_fields[str(part)].annotation if str(part) in kind.model_fields else None
        for candidate in (annotation, *get_args(annotation)):
            if isinstance(candidate, type) and issubclass(candidate, BaseModel):
                kind = with_options(candidate)
    return kind


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a key, or of its section; None when the text has neither.

    ``place`` is a path of pydantic: ``("reach", 1, "port")``. For a list on several lines it is the first
    one.
    """
    lines = lines_of_keys(text)
    return next(
        (lines[tuple(place[:end])] for end in range(len(place), 0, -1) if tuple(place[:end]) in lines), None
    )


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """Return the first line of each section and key, by its path.

    >>> lines_of_keys("[[reach]]\\nport = 1\\n\\n[[reach]]\\nport = 2")
    {('reach', 0): 1, ('reach', 0, 'port'): 2, ('reach', 1): 4, ('reach', 1, 'port'): 5}
    """
    lines: dict[KeyPath, int] = {}
    section: KeyPath = ()
    tables: dict[KeyPath, int] = {}
    """Number of the last table of each list of tables, by the list's path."""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := re.match(r"\s*(\[\[?)\s*([^\]]+?)\s*\]", line):
            section = ()
            parts = [part.strip(" \"'") for part in header[2].split(".")]
            for place, part in enumerate(parts, start=1):
                section = (*section, part)
                if header[1] == "[[" and place == len(parts):
                    tables[section] = tables.get(section, -1) + 1
                if section in tables:
                    section = (*section, tables[section])
            lines.setdefault(section, number)
        elif assigned := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            parts = tuple(part.strip("\"'") for part in assigned[1].split("."))
            lines.setdefault((*section, *parts), number)
    return lines


# Edits that keep comments, order and layout: for the command line alone


def with_values(text: str, values: Mapping[KeyPath, str | Sequence[str]]) -> str:
    """Return the text with these values at these places; a missing key is added below its section's head.

    ``values``: ``{("edge", "host_name"): "assistant.internal"}``.
    """
    import tomlkit  # not in the service's image, which edits no file

    document: Any = tomlkit.parse(text)
    missing: dict[KeyPath, str | Sequence[str]] = {}
    for place, value in values.items():
        section = _at(document, place[:-1])
        if section is not None and (isinstance(place[-1], int) or place[-1] in section):
            section[place[-1]] = value
        else:
            missing[place] = value
    text = tomlkit.dumps(document)
    for place, value in missing.items():
        keys, lines = lines_of_keys(text), text.splitlines(keepends=True)
        assignment = f"{place[-1]} = {json.dumps(value, ensure_ascii=False)}\n"
        if head := keys.get(place[:-1]):
            text = "".join([*lines[:head], assignment, *lines[head:]])
        else:
            text = f"{text.rstrip()}\n\n[{'.'.join(map(str, place[:-1]))}]\n{assignment}"
    return text


def without(text: str, places: Iterable[KeyPath]) -> str:
    """Return the text without these keys and tables, and without the comments in them.

    A place that is not there is no error.
    """
    keys = lines_of_keys(text)
    for place in sorted(places, key=lambda place: keys.get(place, 0), reverse=True):  # numbers before it stay
        text = _without(text, place)
    return text


def _without(text: str, place: KeyPath) -> str:
    import tomlkit

    keys, lines = lines_of_keys(text), text.splitlines(keepends=True)
    first = keys.get(place, 0) - 1
    if first < 0 or not lines[first].lstrip().startswith("["):
        document: Any = tomlkit.parse(text)
        section = _at(document, place[:-1])
        if section is not None and place[-1] in section:
            del section[place[-1]]
        return tomlkit.dumps(document)
    after = [line - 1 for key, line in keys.items() if line - 1 > first and key[: len(place)] != place]
    end = min(after, default=len(lines))
    while after and lines[end - 1].lstrip().startswith("#"):  # a comment over the next table is its own
        end -= 1
    kept = "".join([*lines[:first], *lines[end:]])
    return kept if after else f"{kept.rstrip()}\n"


def _at(data: Any, place: KeyPath) -> Any:
    """Return what is at a place; None where nothing is."""
    try:
        return reduce(getitem, place, data)
    except (KeyError, IndexError):
        return None
