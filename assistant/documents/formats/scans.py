"""Reads the text of scanned pages of a PDF by the program tesseract.

It is a child of the parsing process, and has its limits of memory, file size and CPU time.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from functools import cache
from typing import Any

from assistant.documents.formats.page_layout import Block, Line, Paragraph
from assistant.documents.formats.page_words import Box
from assistant.domain.errors import DocumentInvalidError

PAGE_LIMIT_S = 30.0
"""Twenty times the CPU time of a page of print, for a machine that is busy. A page that takes longer stays a
scan without text."""
_DOTS_PER_INCH = 300
"""As tesseract's documentation advises."""
_MOST_PIXELS = 40_000_000
"""An A3 page has 17 million. A larger page is rendered with fewer dots."""
_MISSING = (
    "it has scanned pages, and its source says ocr = true, but the program tesseract is not installed here. "
    "Install it (Debian: apt-get install tesseract-ocr) and add the file again."
)


def scan_blocks(page: Any, languages: Sequence[str]) -> list[Block]:
    """Return the paragraphs of a pypdfium2 page that is a picture; none if there is no text in it.

    Raises DocumentInvalidError where tesseract or one of the languages is not installed.
    """
    width, height = page.get_size()
    middle = Box(0.0, height / 2, width, height / 2)  # in no margin: no line of it is a running header
    return [
        Paragraph([Line(line, middle, is_bold=False, size=0.0, place=0) for line in lines])
        for block in _recognised(page, languages).split("\n\n")
        if (lines := [" ".join(line.split()) for line in block.splitlines() if line.strip()])
    ]


def _recognised(page: Any, languages: Sequence[str]) -> str:
    program = shutil.which("tesseract")
    if program is None:
        raise DocumentInvalidError(_MISSING)
    if missing := sorted(set(languages) - _installed(program)):
        problem = (
            f"ocr_languages of its source names {', '.join(missing)}, which tesseract does not have here"
        )
        raise DocumentInvalidError(
            f"{problem}. Install it (Debian: tesseract-ocr-LANGUAGE) or change the key."
        )
    command = [program, "stdin", "stdout", "-l", "+".join(languages), "--dpi", str(_DOTS_PER_INCH)]
    try:
        ran = _run(command, picture=_picture(page))
    except subprocess.TimeoutExpired:
        return ""
    if ran.returncode != 0:
        problem = f"tesseract ended on a scanned page (status {ran.returncode})"
        raise DocumentInvalidError(f"{problem}. Scan it again with fewer dots, or add its text.")
    return ran.stdout.decode(errors="replace")


@cache
def _installed(program: str) -> frozenset[str]:
    """Return the languages that tesseract can read. It passes over one that it lacks without an error."""
    _, *names = _run([program, "--list-langs"]).stdout.decode().split("\n")
    return frozenset(name.strip() for name in names)


def _run(command: Sequence[str], *, picture: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    one_thread = os.environ | {"OMP_THREAD_LIMIT": "1"}  # each reserves address space
    return subprocess.run(
        command, input=picture, capture_output=True, timeout=PAGE_LIMIT_S, env=one_thread, check=False
    )


def _picture(page: Any) -> bytes:
    """Return the page in shades of grey, as a portable graymap (PGM)."""
    width, height = page.get_size()
    dots = _DOTS_PER_INCH / 72
    scale = min(dots, (_MOST_PIXELS / (width * height)) ** 0.5)
    bitmap = page.render(scale=scale, grayscale=True)
    rows, stride = memoryview(bytes(bitmap.buffer)), bitmap.stride
    lines = (rows[row * stride : row * stride + bitmap.width] for row in range(bitmap.height))
    return b"".join((b"P5 %d %d 255\n" % (bitmap.width, bitmap.height), *lines))
