"""Prints a file's words as libraries of another make read them.

    PYTHON second_readers.py FORMAT FILE

It runs in a Python of its own with pypandoc_binary 1.17, python-calamine 0.9.1, inscriptis 2.7.6 and
markdown-it-py 4.3.0, and needs poppler's pdftotext. Nothing of this project is imported.
"""

import contextlib
import csv
import email
import email.policy
import io
import re
import subprocess
import sys
from pathlib import Path

_PANDOC_GRAPHIC = re.compile(r"\[Graphic: .*?\]", re.S)
"""What pandoc writes in place of an embedded object."""
_FRONT_MATTER = re.compile(r"\A---\n.*?\n---\n", re.S)


def _pandoc(path: Path) -> str:
    import pypandoc  # pyright: ignore

    text = pypandoc.convert_file(str(path), "plain", extra_args=["--wrap=none"])  # pyright: ignore
    return _PANDOC_GRAPHIC.sub("", str(text))  # pyright: ignore


def _calamine(path: Path) -> str:
    import python_calamine as calamine  # pyright: ignore

    book = calamine.CalamineWorkbook.from_path(str(path))  # pyright: ignore
    lines = list[str]()
    for sheet in book.sheets_metadata:  # pyright: ignore
        if (
            sheet.visible == calamine.SheetVisibleEnum.Visible
            and sheet.typ == calamine.SheetTypeEnum.WorkSheet
        ):  # pyright: ignore
            rows = book.get_sheet_by_name(sheet.name).to_python()  # pyright: ignore
            lines += [sheet.name] if rows else []  # pyright: ignore
            lines += ["\t".join(map(_shown, row)) for row in rows]  # pyright: ignore
    return "\n".join(lines)


def _shown(value: object) -> str:
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _html(content: "str | bytes") -> str:
    import inscriptis  # pyright: ignore
    import lxml.html  # pyright: ignore

    if isinstance(content, bytes):
        with contextlib.suppress(UnicodeDecodeError):  # else lxml obeys what the page declares
            content = content.decode()
    return inscriptis.Inscriptis(lxml.html.fromstring(content)).get_text()  # pyright: ignore


def _markdown(path: Path) -> str:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable(["table", "strikethrough"])
    return _html(parser.render(_FRONT_MATTER.sub("", path.read_text(encoding="utf-8"))))


def _csv(path: Path) -> str:
    raw = path.read_bytes()
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = raw.decode("cp1252")
    return "\n".join("\t".join(row) for row in csv.reader(io.StringIO(text)))


def _poppler(path: Path) -> str:
    command = ["pdftotext", "-enc", "UTF-8", str(path), "-"]
    return subprocess.run(command, capture_output=True, check=True).stdout.decode()


def _mail(path: Path) -> str:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    body = message.get_body(("html", "plain"))
    content = "" if body is None else str(body.get_content())
    text = _html(content) if body is not None and body.get_content_type() == "text/html" else content
    return "\n".join([*(str(message[key] or "") for key in ("subject", "from", "to")), text])


_READERS = {
    "docx": _pandoc,
    "pptx": _pandoc,
    "xlsx": _calamine,
    "html": lambda path: _html(path.read_bytes()),
    "md": _markdown,
    "csv": _csv,
    "pdf": _poppler,
    "eml": _mail,
}

if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")  # pyright: ignore
    print(_READERS[sys.argv[1]](Path(sys.argv[2])))
