"""How many words of public files are read, against readers of another make.

    python -m tests.formats.public --truth FOLDER --second PYTHON

FOLDER holds the repositories of ``public.toml`` as FOLDER/OWNER/NAME, with or without a work tree. PYTHON is
one that has the packages of ``second_readers.py``.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import tempfile
import tomllib
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

from assistant.documents.files import SourceDocument, SourceItem
from assistant.documents.items import converted_item, page_item
from assistant.documents.page import Item, Note, OlderText, Run, Table
from assistant.documents.parsing import read_page, render_document
from tools.tables import markdown_table

_FILES = Path(__file__).with_name("public.toml")
_SECOND = Path(__file__).with_name("second_readers.py")
_MOST_LOST = 0.3
"""A source's ``most_lost``, where it names none: a file with a larger share waits for its owner."""
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_WORDS = re.compile(r"[^\W\d_]+|\d+(?:[.,]\d+)*")


def words(text: str) -> Counter[str]:
    """Return the words and numbers of a text, without punctuation. "1,500" and "1500" are one number."""
    plain = unicodedata.normalize("NFKC", text.replace("\u00ad", ""))
    return Counter(_WORDS.findall(_THOUSANDS.sub("", plain).casefold()))


def read(path: Path) -> SourceItem:
    """Return the file as a source would add it."""
    raw = path.read_bytes()
    match path.suffix.lower():
        case ".md":
            return page_item(path.name, raw, is_markdown=True)
        case ".html":
            return page_item(path.name, raw, is_markdown=False)
        case _:
            return converted_item(path.name, raw)


def once(value: Any, *, has_copies: bool = False) -> Iterator[str]:
    """Yield the texts of a page's parts that are in force, each as often as it stands in the page: a stored
    table names its columns in each row.

    ``has_copies``: the reader copies a cell that spans others, so within a table equal cells of three words
    and more are one.
    """
    match value:
        case OlderText():
            return
        case (Run(), *_):
            texts = ("" if run.is_struck or run.is_hidden else run.text for run in value)
            shifts = (" " if run.shift or run.is_struck or run.is_hidden else "" for run in value)
            yield "".join(f"{apart}{text}{apart}" for apart, text in zip(shifts, texts, strict=True))
        case tuple():
            for part in value:
                yield from once(part, has_copies=has_copies)
        case Table() if has_copies:
            texts = [" ".join(once(cell)) for row in value.rows for cell in row]
            yield from dict.fromkeys(text for text in texts if len(text.split()) > 2)
            yield from (text for text in texts if len(text.split()) <= 2)
        case _ if is_dataclass(value):
            if isinstance(value, Item | Note):
                yield value.marker if isinstance(value, Item) else value.mark
            for field in fields(value):
                yield from once(getattr(value, field.name), has_copies=has_copies)
        case _:
            return


def measure(path: Path, seen: Counter[str], not_shown: int) -> Counter[str]:
    """Return of one file how many words the second reader sees, are read, and are counted as lost.

    ``not_shown``: how many of the unread ones a person does not see in the file.
    """
    item = read(path)
    if not isinstance(item, SourceDocument):
        return Counter(files=1, waits=1)
    rendered, page = render_document(item.document), read_page(item.document)
    stored = words("\n".join([item.document.title, rendered.parsed.text]))
    own = (
        words(
            "\n".join(
                [item.document.title, page.banner, *once(page.blocks, has_copies=path.suffix == ".pdf")]
            )
        )
        & stored
    )
    missing = max(0, (seen - own).total() - not_shown)
    lost = min(missing, sum(loss.words for loss in rendered.losses))
    total = seen.total() - not_shown
    return Counter(files=1, waits=item.lost_share > _MOST_LOST, words=total, read=total - missing, lost=lost)


def main() -> None:
    """Print a row for each format: words, the shares that are read and counted as lost, files that wait."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--second", required=True, help="a Python with the packages of second_readers.py")
    parser.add_argument("--each", action="store_true", help="print each file")
    options = parser.parse_args()
    sums: dict[str, Counter[str]] = defaultdict(Counter)
    for file in tomllib.loads(_FILES.read_text(encoding="utf-8"))["file"]:
        git = [
            "git",
            "-C",
            str(options.truth / file["repository"]),
            "show",
            f"{file['commit']}:{file['path']}",
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, Path(file["path"]).name)
            path.write_bytes(subprocess.run(git, check=True, capture_output=True).stdout)
            second = [options.second, str(_SECOND), file["format"], str(path)]
            seen = subprocess.run(second, check=True, capture_output=True).stdout.decode()
            result = measure(path, words(seen), file.get("not_shown", 0))
        sums[file["format"]] += result
        if options.each:
            print(file["format"], path.name, dict(result))
    sums["all but mails"] = sum((row for name, row in sums.items() if name != "eml"), Counter())
    rows = [
        (
            name,
            f"{row['files']}",
            f"{row['words']:,}",
            f"{row['read'] / row['words']:.2%}",
            f"{row['lost'] / row['words']:.2%}",
            f"{row['waits']}",
        )
        for name, row in sums.items()
    ]
    print(markdown_table(("format", "files", "words", "read", "counted as lost", "files that wait"), rows))


if __name__ == "__main__":
    main()
