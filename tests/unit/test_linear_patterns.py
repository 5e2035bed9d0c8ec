"""The work on a text is linear in its length, whatever the text.

Every compiled pattern of the folders whose code reads text of documents is found by import and tried on runs
of what may repeat. The functions that loop over such a text are tried in the same way.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cache
from types import ModuleType
from zlib import crc32

import pytest

import assistant.answer
import assistant.documents
import assistant.text
from assistant.documents.front_matter import read_front_matter
from assistant.documents.parsing import parse_document
from assistant.documents.passages import PassageCutter, TokenCounts, build_card
from assistant.domain.documents import Document
from assistant.domain.errors import DocumentInvalidError
from assistant.option import installed
from assistant.text.language import language, quantities, split_sentences
from tests.stage.growth import LONGEST, MOST_GROWTH, RUNS, SAMPLED, growth, worst
from tests.unit.documents.scene import model_tokenizer

ENGLISH = language("en")


FOR_A_KNOWN_PLACE = {
    "answer.vocabulary._CODE": "matched with the whole of a word of a question",
    "answer.vocabulary._COUNTED": "matched with the whole of a word of a question",
    "documents.front_matter._PLACE": "matched at the beginning of 80 characters",
    "options.live.connector._ESCAPED_OR_CLASS": "searched for in one pattern of a connector file",
    "options.models_lab.corpus._WEIGHT": "matched with the whole of an option",
    "text.language._LAST_WORD": "searched for in 40 characters",
    "text.language._COUNTED": "matched with the whole of a code",
    "text.safe_markdown._DESTINATION": "matched at the bracket of a link",
    "text.safe_markdown._DEFINITION": "matched within 2,100 characters",
}
"""Patterns that are not searched for in a text of any length."""


def modules(package: ModuleType) -> Iterator[ModuleType]:
    yield package
    for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        if not found.name.endswith("__main__"):
            yield importlib.import_module(found.name)


@cache
def patterns() -> dict[str, re.Pattern[str]]:
    """Every compiled pattern of texts that is a value of a module, by its place."""
    return {
        f"{module.__name__.removeprefix('assistant.')}.{name}": value
        for package in (
            assistant.text,
            assistant.documents,
            assistant.answer,
            *(importlib.import_module(option.package) for option in installed()),
        )
        for module in modules(package)
        for name, value in vars(module).items()
        if isinstance(value, re.Pattern) and isinstance(value.pattern, str)
    }


@pytest.mark.parametrize("name", sorted(patterns().keys() - FOR_A_KNOWN_PLACE.keys()))
def test_a_pattern_is_linear(name: str) -> None:
    pattern, first = patterns()[name], crc32(name.encode()) % SAMPLED
    assert worst(lambda text: sum(1 for _ in pattern.finditer(text)), RUNS[first::SAMPLED]) == {}


def parse(media_type: str, *, is_cut: bool = False) -> Callable[[str], object]:
    noon = datetime(2026, 11, 20, 12, tzinfo=UTC)
    cutter = PassageCutter(TokenCounts.load(model_tokenizer()), max_tokens=256, language=ENGLISH)

    def work(text: str) -> None:
        document = Document.model_validate(
            {"document_id": "d", "title": "T", "content": text, "media_type": media_type}
        )
        try:
            parsed = parse_document(document)
        except DocumentInvalidError:
            return
        if is_cut:
            cutter.cut(document, parsed, content_hash="h", updated_at=noon)
        else:
            build_card(document, parsed, content_hash="h", updated_at=noon)

    return work


def front_matter(text: str) -> None:
    for content in (text, f"---\n{text}\n---\n# T\n\nText.\n"):
        with suppress(DocumentInvalidError):
            read_front_matter(content)


READERS: dict[str, Callable[[str], object]] = {
    "plain": parse("text/plain"),
    "markdown": parse("text/markdown"),
    "html": parse("text/html"),
    "front matter": front_matter,
    "passages": parse("text/plain", is_cut=True),
    "sentences": split_sentences,
    "quantities": quantities,
}


LONGEST_OF = {"html": 128_000}
"""Characters: the walk to the deepest element that HTML may have costs a millisecond."""
PAGES: dict[str, Callable[[int], str]] = {
    "closed elements": lambda size: "<div>" * (size // 11) + "</div>" * (size // 11),
    "unclosed elements": lambda size: "".join(f"<b {at}><i {at}>" for at in range(size // 22)) + "x</b>" * 99,
    "a long column name": lambda size: f"<table><tr><th>{'a' * (size // 2)}" + "<tr><td>b" * (size // 18),
    "a wide table": lambda size: "<table><tr>" + "<th>a" * (size // 10) + "<tr><td>b" * (size // 18),
    "a style that is repeated": lambda size: f"<p><b style='{'a' * (size // 2)}'>" + "<p>b" * (size // 8),
}


@pytest.mark.parametrize("name", PAGES)
def test_a_page_of_html_is_parsed_in_linear_time(name: str) -> None:
    assert growth(READERS["html"], PAGES[name], longest=LONGEST_OF["html"]) <= MOST_GROWTH


@pytest.mark.parametrize("name", READERS)
def test_a_reader_of_text_is_linear(name: str) -> None:
    first = list(READERS).index(name) % SAMPLED
    assert worst(READERS[name], RUNS[first::SAMPLED], longest=LONGEST_OF.get(name, LONGEST)) == {}
