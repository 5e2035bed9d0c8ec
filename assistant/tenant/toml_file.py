"""Settings files in TOML: reading with errors that name file, line and key, and edits that keep layout.

The file has three parts: the classes that tables of a settings file are made of, and how options add tables
to them; ``read_strict``, with its errors; and the edits of the command line.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache, reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self, TypeVar, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError, create_model, model_validator
from pydantic_core import CoreSchema, ErrorDetails

from assistant.domain.errors import ConfigurationError
from assistant.option import installed

ModelT = TypeVar("ModelT", bound=BaseModel)
KeyPath = tuple[str | int, ...]
"""Where a key or table is, as pydantic says it: ``("reach", 0, "port")`` is ``port`` in the first
``[[reach]]``."""
TableT = TypeVar("TableT", bound="OptionTable")

RETIRED_KEYS: Mapping[str, str] = {
    "ASSISTANT_MODEL_MODE": "in 0.3.0: unset it; each answer is computed alone, as reproducible was",
    **dict.fromkeys(
        (
            "operations.parameters.type",
            *(f"operations.results.{key}" for key in ("decimals", "most_characters", "pattern", "required")),
        ),
        "in 0.3.0: the system's OpenAPI file says it. Delete the line",
    ),
    **dict.fromkeys(
        (
            *("gate.answered", "gate.possibly", "gate.min_cosine", "gate.min_coverage"),
            *("gate.right_sure", "gate.right_possible", "gate.wrong_possible", "gate.wrong_sure"),
            "gate.hopeless_cosine",
        ),
        "in 0.3.0: without a model the nearest section is shown, folded where it is not certain. Delete the "
        "line",
    ),
    "answering.history_turns": "in 0.3.0: every model reads the last two questions and the last answer. "
    "Delete the line",
    "answering.passages": "in 0.3.0: leave it out; a model reads whole documents, as many as its context and "
    "reads_tokens hold",
    "answering.prompt": "in 0.3.0: answers have one prompt. Delete the line",
    "answers.condition_headings": "in 0.3.0: leave it out; a document's best section is shown with what "
    "stands around it",
    "answers.prompt": "in 0.3.0: answers have one prompt. Delete the line",
    "answers.reading": "in 0.3.0: [generation] reads says whether the model reads a conversation beside its "
    "search, true by default. Delete the line",
    "answers.reply_headings": "in 0.3.0: no text of a document is opened as a reply. Delete the line",
    "deployment.release": "in 0.3.0: the tag release is the version of the package that deploys. Delete the "
    "line",
    "feedback": "in 0.3.0: write [desk.feedback] with the same keys",
    "generation.bedrock": "in 0.3.0: write [bedrock] with the same value as model",
    "generation.bedrock_regions": "in 0.3.0: write [bedrock] with the same list as regions",
    "helpdesk": "in 0.3.0: the reference helpdesk is of the demo alone, and not deployed. Delete the section",
    "knowledge": 'in 0.2.0: write [[sources]] with name = "knowledge", namespace = "" and the same paths '
    "instead",
    "learning": "in 0.3.0: write [models_lab] with the same keys, without ranking",
    "lineage.also": "in 0.3.0: delete the line; assistant evaluate --model NAME=URL#MODEL compares the same "
    "weights in another form, and writes [lineage.comparisons]",
    "models.candidate": 'in 0.3.0: no canary runs beside the served model. Delete the line; llm = "NAME" '
    "serves a tuned model that assistant evaluate --model compared, and the way back is the line before",
    "models.trials": "in 0.3.0: write trials below [models_lab]",
    "prompt": "in 0.3.0: answers have one prompt, and the served model's manifest, table [answering], says "
    "how it is rendered. Delete the section",
    **{
        f"reach.{key}": f"in 0.3.0: write {key} below [reach.live], at the end of its [[reach]] entry"
        for key in ("connector", "replies", "whose")
    },
    "recall": "in 0.3.0: write [desk.recall] with the same keys",
    "review.open_cases_per_agent": "in 0.3.0: write open_cases_per_agent below [desk]",
    "operations.results.type": 'in 0.3.0: the system\'s OpenAPI file says it. Write format = "date", '
    '"date-time" or "uri" for a day, a time or a link; delete the line for any other type',
    "secrets.live_reads": "in 0.3.0: write [live] with the same value as pseudonyms",
    "sources.default_labels": 'in 0.3.0: labels come from where access says. access = "folder" with folders '
    '= { "" = […] } and the same labels keeps the meaning; access = "everyone" that of an empty list',
    "suggest": "in 0.3.0: write [panel] with its least as least_suggestion",
}
"""Key of an earlier release = in which release it was removed, and what to do. The text ends the sentence
"KEY was removed …".

A key is written without the numbers of list entries: ``sources.access`` for each ``[[sources]]``. One is a
variable of the environment: ``assistant.process.settings`` reads this table too.
"""


class StrictModel(BaseModel):
    """A settings file, or a table of one: unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class KeyMark(Enum):
    """What is special about a key. It stands in the annotation of the key's field.

    ``ca_file: Annotated[str | None, KeyMark.NAMES_A_FILE] = None``
    """

    NAMES_A_FILE = "The value is the path of another file, relative to the tenant file."
    IN_A_FILE = "No tenant file has it: its value is the content of the file that the key beside it names."
    DEPLOYMENT_WRITES = "No tenant file has it: the deployment writes it into the file of its containers."
    DEPLOYMENT_READS = "Only a deployment reads it, except ``reach``: the service calls some of its entries."
    NO_ANSWER = "It changes no answer, so the hash of the settings leaves it out."


class OptionTable(StrictModel):
    """A table that an option adds to a table of the core, as ``Option.tables`` says.

    It has the name of the option's folder::

        class BedrockSection(TenantTable):  # in assistant/options/bedrock
            model: str

        TABLES = {TenantConfig: BedrockSection}

        BedrockSection.of(tenant)  # [bedrock] of a tenant file, and None for a file without it

    Where the core asks what an option's table means for the table around it, there is a subclass with the
    answers of a table that means nothing: ``TenantTable``, ``SourceTable``, ``ReachTable``.
    """

    table_name: ClassVar[str | None] = None
    """Name of the table, where that is not the name of the option's folder."""
    mark: ClassVar[KeyMark] = KeyMark.NO_ANSWER
    """What is special about the table, as of a key."""

    @classmethod
    def of(cls, section: OpenSection) -> Self | None:
        """Return the option's table in a table of the core; None where the file has none."""
        return next(section.option_tables(cls), None)

    @classmethod
    def field(cls) -> tuple[Any, Any]:
        """Return type and default of the field that holds the table, as ``create_model`` takes them."""
        return Annotated[cls | None, cls.mark], None

    def check(self, section: Any, /) -> None:
        """Raise ValueError where the table contradicts ``section``, the table of the core that it is in."""


class OpenSection(StrictModel):
    """A table of a settings file to which options add tables of their own.

    To call the class, or to validate a file with it, gives a value of the class *with options*: its one
    subclass, which has a field for each ``OptionTable``.
    """

    # Pydantic must not look for the tables of options before they are first used: the options' modules import
    # the one in which the table is.
    model_config = ConfigDict(defer_build=True)

    def __new__(cls, *_: object, **__: object) -> Self:
        """Make a value of the class with options, whose ``__init__`` Python calls: it is a subclass."""
        return super().__new__(with_options(cls))

    @classmethod
    def __get_pydantic_core_schema__(cls, _: Any, handler: Callable[[Any], CoreSchema]) -> CoreSchema:
        """Validate as the class with options, wherever a field has this class as its type."""
        return handler(with_options(cls))

    def option_tables(self, kind: type[TableT]) -> Iterator[TableT]:
        """Yield the tables of a class that options added and the file has."""
        return (value for value in self.__dict__.values() if isinstance(value, kind))

    @model_validator(mode="after")
    def _fits_option_tables(self) -> Self:
        for table in self.option_tables(OptionTable):
            table.check(self)
        return self


Tables = Mapping[type[OpenSection], type[OptionTable]]
"""The tables of one option, each by the core's table that it is in."""


@cache
def with_options(model: type[BaseModel]) -> type[Any]:
    """Return the subclass of an open section with the tables of all options, made once: a second would be
    another type. A model to which no option adds is returned as it is."""
    if not issubclass(model, OpenSection):
        return model
    fields: dict[str, Any] = {}
    for option in installed():
        if (table := option.tables().get(model)) is not None:
            fields[table.table_name or option.name] = table.field()
    if not fields:
        return model
    return create_model(
        model.__name__, __base__=model, __module__=model.__module__, __doc__=model.__doc__, **fields
    )


def models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Yield the models in a field's annotation, with the fields of options: SqlConnector and WikiConnector of
    ``SqlConnector | WikiConnector | None``, ReachEntry of ``tuple[ReachEntry, ...]``."""
    if isinstance(annotation, type) and not get_args(annotation) and issubclass(annotation, BaseModel):
        yield with_options(annotation)
    for inner in get_args(annotation):
        yield from models_in(inner)


def marked(model: type[BaseModel], *marks: KeyMark) -> dict[str, Any]:
    """Return the keys that have at least one of the marks, in the tables in it too, as ``model_dump`` takes
    them: ``{"deployment": True, "reach": {"__all__": {"ca_pem": True}}}``."""
    found: dict[str, Any] = {}
    for name, field in with_options(model).model_fields.items():
        inner = {k: v for each in models_in(field.annotation) for k, v in marked(each, *marks).items()}
        if any(mark in field.metadata for mark in marks):
            found[name] = True
        elif inner:
            found[name] = {"__all__": inner} if get_origin(field.annotation) is tuple else inner
    return found


def read_strict(
    path: Path, model: type[ModelT], *, complete: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> ModelT:
    """Return the file as a value of ``model``, with the tables of options.

    Raises ConfigurationError with every error of the file: ``tenants/clinic.toml: line 7: unknown key
    sources.0.conector; allowed here: access, connector, …; line 9: name is needed``.

    ``complete`` gets the parsed file and returns it with what other files add to it, such as certificates; by
    default nothing. It runs before the values are checked, and may raise ConfigurationError.
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
        # Strict, so that true is not a number. Through JSON, because a strict check of Python's values would
        # refuse a list for a tuple. Dates of TOML become text there.
        return with_options(model).model_validate_json(json.dumps(complete(data), default=str), strict=True)
    except ValidationError as error:
        messages = [_message(detail, model=model, text=text) for detail in _first_causes(error.errors())]
        raise ConfigurationError(f"{path}: {'; '.join(messages)}") from None


_OUR_CHECK = "Value error, "
"""What pydantic writes before the text of a ValueError that a validator of ours raises."""
_LONGEST_VALUE = 80
"""Characters of a wrong value that an error shows."""


def _first_causes(errors: Sequence[ErrorDetails]) -> list[ErrorDetails]:
    """Return the errors without those that only follow from another one: pydantic also calls a list too short
    when it has left out its wrong items."""
    places = [error["loc"] for error in errors]

    def follows(error: ErrorDetails) -> bool:
        around = error["loc"]
        has_wrong_item = any(place != around and place[: len(around)] == around for place in places)
        return error["type"] == "too_short" and has_wrong_item

    return [error for error in errors if not follows(error)]


def _message(error: ErrorDetails, *, model: type[BaseModel], text: str) -> str:
    """Return what an error of pydantic's says of the file: ``line 3: edge.port is needed``."""
    place = error["loc"]
    key = ".".join(str(part) for part in place)
    line = line_of(text, place)
    where = f"line {line}: " if line else ""
    if error["type"] == "extra_forbidden":
        without_numbers = ".".join(part for part in place if isinstance(part, str))
        if without_numbers in RETIRED_KEYS:
            return f"{where}{key} was removed {RETIRED_KEYS[without_numbers]}"
        table = _table_at(model, place[:-1])
        return f"{where}unknown key {key}; allowed here: {', '.join(sorted(table.model_fields))}"
    if error["type"] == "missing":
        return f"{where}{key} is needed"
    if error["type"] == "value_error":  # a validator of ours, whose text names what is wrong
        message = error["msg"].removeprefix(_OUR_CHECK)
        return f"{where}{key}: {message}" if key else f"{where}{message}"
    return f"{where}{key or 'the file'}: {error['msg']} (got {_shortened(error['input'])})"


def _shortened(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_VALUE else f"{shown[:_LONGEST_VALUE]}…"


def _table_at(model: type[BaseModel], place: Sequence[str | int]) -> type[BaseModel]:
    """Return the class of the table at ``place`` in a file of ``model``: SourceEntry for ``("sources", 0)``.

    Numbers, and the kind that pydantic adds to the place of a union's value, name no field: they stay at the
    table that was reached. Of a union it is the last class.
    """
    table = with_options(model)
    for part in place:
        field = table.model_fields.get(str(part))
        *_, table = table, *models_in(None if field is None else field.annotation)
    return table


def line_of(text: str, place: Sequence[str | int]) -> int | None:
    """Return the line of a key, or of the innermost table around it that has one; None where none has.

    A value on several lines counts as its first line.
    """
    lines = lines_of_keys(text)
    innermost_first = (tuple(place[:size]) for size in range(len(place), 0, -1))
    return next((lines[path] for path in innermost_first if path in lines), None)


_HEADER = re.compile(r"\s*(\[\[?)\s*([^\]]+?)\s*\]")
"""``[edge]`` or ``[[sources.folders]]``: its brackets, and its dotted name."""
_ASSIGNED = re.compile(r"\s*([\w.\"'-]+)\s*=")
"""``edge.port =``: the dotted name of a key."""


def lines_of_keys(text: str) -> dict[KeyPath, int]:
    """Return the first line of each table and key, by its path.

    >>> lines_of_keys("[[reach]]\\nport = 1\\n\\n[[reach]]\\nport = 2")
    {('reach', 0): 1, ('reach', 0, 'port'): 2, ('reach', 1): 4, ('reach', 1, 'port'): 5}

    It reads lines, not TOML: keys inside of a value, such as an inline table, have no line of their own.
    """
    lines: dict[KeyPath, int] = {}
    table: KeyPath = ()
    """Path of the table that the line belongs to."""
    last_entries: dict[KeyPath, int] = {}
    """Path of a list of tables = number of its last entry so far."""
    for number, line in enumerate(text.splitlines(), start=1):
        if header := _HEADER.match(line):
            brackets, name = header.groups()
            names = [part.strip(" \"'") for part in name.split(".")]
            table = ()
            for depth, part in enumerate(names, start=1):
                table = (*table, part)
                if brackets == "[[" and depth == len(names):
                    last_entries[table] = last_entries.get(table, -1) + 1
                if table in last_entries:  # [reach.headers] belongs to the last [[reach]] above
                    table = (*table, last_entries[table])
            lines.setdefault(table, number)
        elif assigned := _ASSIGNED.match(line):
            names = [part.strip("\"'") for part in assigned[1].split(".")]
            lines.setdefault((*table, *names), number)
    return lines


# Edits that keep comments, order and layout: for the command line alone


def with_values(text: str, values: Mapping[KeyPath, str | Sequence[str]]) -> str:
    """Return the text with these values. A key that is there keeps its line and its comment; a missing one is
    added below its table's header; a missing table is added at the end.

    >>> with_values('[edge]\\nport = "1"  # ours\\n', {("edge", "port"): "2", ("edge", "host"): "a.internal"})
    '[edge]\\nhost = "a.internal"\\nport = "2"  # ours\\n'
    """
    import tomlkit  # not in the service's image, which edits no file

    document: Any = tomlkit.parse(text)
    missing: dict[KeyPath, str | Sequence[str]] = {}
    for (*around, key), value in values.items():
        table = _value_at(document, around)
        if table is not None and (isinstance(key, int) or key in table):
            table[key] = value
        else:
            missing[*around, key] = value
    text = tomlkit.dumps(document)
    for (*around, key), value in missing.items():
        assignment = f"{key} = {json.dumps(value, ensure_ascii=False)}\n"
        if header := lines_of_keys(text).get(tuple(around)):
            lines = text.splitlines(keepends=True)
            text = "".join([*lines[:header], assignment, *lines[header:]])
        else:
            text = f"{text.rstrip()}\n\n[{'.'.join(map(str, around))}]\n{assignment}"
    return text


def without(text: str, places: Iterable[KeyPath]) -> str:
    """Return the text without these keys and tables, and without the comments in them. A place that is not
    there is no error.

    >>> without("[edge]\\nport = 1\\n# Who may ask.\\n[identity]\\n", [("edge",)])
    '# Who may ask.\\n[identity]\\n'
    """
    lines = lines_of_keys(text)
    # From the end of the file: to take entry 2 of a list away changes no number of the entries before it.
    for place in sorted(places, key=lambda place: lines.get(place, 0), reverse=True):
        text = _without_place(text, place)
    return text


def _without_place(text: str, place: KeyPath) -> str:
    lines, lines_by_key = text.splitlines(keepends=True), lines_of_keys(text)
    number = lines_by_key.get(place)
    if number is None or not lines[number - 1].lstrip().startswith("["):
        return _without_key(text, place)
    # A table is cut out with all lines up to the next key or header outside of it.
    following = [line for path, line in lines_by_key.items() if line > number and path[: len(place)] != place]
    if not following:
        return f"{''.join(lines[: number - 1]).rstrip()}\n"
    end = min(following) - 1
    while lines[end - 1].lstrip().startswith("#"):  # a comment above the next header belongs to that one
        end -= 1
    return "".join([*lines[: number - 1], *lines[end:]])


def _without_key(text: str, place: KeyPath) -> str:
    import tomlkit

    document: Any = tomlkit.parse(text)
    *around, key = place
    table = _value_at(document, around)
    if table is not None and key in table:
        del table[key]
    return tomlkit.dumps(document)


def _value_at(document: Any, place: Sequence[str | int]) -> Any:
    """Return the value or table at a place; None where there is none."""
    try:
        return reduce(getitem, place, document)
    except (KeyError, IndexError):
        return None
