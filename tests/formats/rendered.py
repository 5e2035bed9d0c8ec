"""Renders ten texts of which the words and cells are known, by Chromium, LibreOffice and TeX.

    python -m tests.formats.rendered --out FOLDER/rendered

The texts are the pharmacy's; the tables are made up. Each PDF lies beside its truth as XHTML.
"""

from __future__ import annotations

import argparse
import re
import subprocess
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import docx
import pypdfium2  # pyright: ignore[reportMissingTypeStubs]
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from openpyxl import Workbook  # pyright: ignore[reportMissingModuleSource]

_TEXTS = Path(__file__).parents[2] / "knowledge" / "pharmacy"
_MARKS = re.compile(r"[*`>#\[\]]|\(\S*\)")
_LINES = "table{border-collapse:collapse} td,th{border:1px solid black;padding:3px}"
_CHROMIUM = {
    "columns": "body{columns:2;font-size:8pt} table{column-span:all;width:100%}" + _LINES,
    "three-columns": "body{columns:3;font-size:9pt;text-align:justify} table{column-span:all;width:100%}"
    + _LINES,
    "no-borders": "td,th{padding:3px 14px;text-align:left}",
    "merged": _LINES,
    "rotated": _LINES,
}
Rows = list[list[str]]


def paragraphs(number: int) -> list[str]:
    """Return the paragraphs of three texts, without marks and tables."""
    files = sorted(_TEXTS.glob("*.md"))[3 * number : 3 * number + 3]
    text = "\n".join(path.read_text().split("---\n", 2)[2] for path in files)
    lines = (re.sub(r"^\s*(-|\d+\.)\s+", "", line) for line in text.splitlines() if "|" not in line)
    return [" ".join(_MARKS.sub("", line).split()) for line in lines if line.strip()]


def cells(number: int) -> Rows:
    """Return a table of 5 columns and 13 rows; the first column repeats the name of its group."""
    words = [word for text in paragraphs(number) for word in text.split() if word.isalpha() and len(word) > 3]
    rows = [["Group", "Name", "Fee", "Days", "Remark"]]
    for row in range(12):
        name, remark = words[5 * row], " ".join(words[5 * row + 1 : 5 * row + 2 + row % 4])
        rows.append(
            [f"{words[row // 3]} {row // 3}", f"{name} {row}", f"{row * 7 + number}.50", str(row + 2), remark]
        )
    return rows


def xhtml(name: str, texts: Sequence[str], rows: Rows, *, style: str, merged: bool) -> str:
    """Return the text with a table in its middle; ``merged`` joins the cells of a group."""
    body = [f"<p>{escape(text)}</p>" for text in texts]
    lines: list[str] = []
    for place, row in enumerate(rows):
        tag, kept = ("th", row) if place == 0 else ("td", row[1:] if merged and place % 3 != 1 else row)
        span = ' rowspan="3"' if merged and place % 3 == 1 else ""
        parts = [f"<{tag}{span if not at else ''}>{escape(cell)}</{tag}>" for at, cell in enumerate(kept)]
        lines.append(f"<tr>{''.join(parts)}</tr>")
    body.insert(len(body) // 2, f"<table>{''.join(lines)}</table>")
    head = f"<head><meta charset='utf-8'/><style>{style}</style></head>"
    return f"<html class='rendered: {name}'>{head}<body>{''.join(body)}</body></html>"


def _tex(texts: Sequence[str], rows: Rows, *, booktabs: bool) -> str:
    escaped = [re.sub(r"([%&$#_])", r"\\\1", text) for text in texts]
    top, middle, bottom = ("\\toprule", "\\midrule", "\\bottomrule") if booktabs else ("\\hline",) * 3
    lines = [" & ".join(row) + r"\\" for row in rows]
    columns = "lllll" if booktabs else "|l|l|r|r|l|"
    content = f"{top} {lines[0]} {middle} {chr(10).join(lines[1:])} {bottom}"
    body = f"\\small\\begin{{tabular}}{{{columns}}}{content}\\end{{tabular}}"
    kind, star = ("", "") if booktabs else ("[twocolumn]", "*")
    half = len(escaped) // 2
    table = f"\n\n\\begin{{table{star}}}\\centering {body}\\end{{table{star}}}\n\n"
    text = "\n\n".join(escaped[:half]) + table + "\n\n".join(escaped[half:])
    packages = r"\usepackage[utf8]{inputenc}\usepackage[T1]{fontenc}\usepackage{booktabs}"
    return f"\\documentclass{kind}{{article}}{packages}\\begin{{document}}\n{text}\n\\end{{document}}"


def _docx(path: Path, texts: Sequence[str], rows: Rows) -> None:
    document = docx.Document()
    columns = OxmlElement("w:cols")
    columns.set(qn("w:num"), "2")
    section = document.sections[0]._sectPr  # pyright: ignore[reportPrivateUsage]
    section.remove(section.find(qn("w:cols")))
    section.append(columns)
    for place, text in enumerate(texts):
        document.add_paragraph(text)
        if place == len(texts) // 2:
            table = document.add_table(0, 2, style="Table Grid")
            for row in rows:
                for cell, value in zip(table.add_row().cells, row[1:3], strict=True):
                    cell.text = value
    document.save(str(path))


def _run(folder: Path, *command: str) -> None:
    subprocess.run(command, cwd=folder, check=True, timeout=180, capture_output=True)


def _render(out: Path, name: str, number: int) -> None:
    texts, rows = paragraphs(number), cells(number)
    kept = [row[1:3] for row in rows] if name == "office-columns" else rows
    merged = name in ("merged", "office-html")
    body = [] if name == "office-sheet" else texts
    page = xhtml(name, body, kept, style=_CHROMIUM.get(name, _LINES), merged=merged)
    (out / f"{name}.xml").write_text(page)
    (out / f"{name}.html").write_text(page)
    to = "pdf"
    if name in _CHROMIUM:
        source = (out / f"{name}.html").as_uri()
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer")
        _run(out, "chromium", *options, f"--print-to-pdf={name}.pdf", source)
        return
    match name:
        case "office-html":
            source, to = f"{name}.html", "pdf:writer_web_pdf_Export"
        case "office-columns":
            source = f"{name}.docx"
            _docx(out / source, texts, rows)
        case "office-sheet":
            source = f"{name}.xlsx"
            _xlsx(out / source, rows)
        case _:
            (out / f"{name}.tex").write_text(_tex(texts, rows, booktabs="booktabs" in name))
            _run(out, "pdflatex", "-interaction=nonstopmode", f"{name}.tex")
            return
    _run(out, "soffice", "--headless", "--convert-to", to, source)


def _xlsx(path: Path, rows: Rows) -> None:
    book = Workbook()
    sheet: Any = book.active
    for letter in "ABCDE":
        sheet.column_dimensions[letter].width = 30
    for row in rows:
        sheet.append(row)
    book.save(path)


def main() -> None:
    """Render all; needs chromium, soffice and pdflatex on the path."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    names = [*_CHROMIUM, "office-html", "office-columns", "office-sheet", "tex-columns", "tex-booktabs"]
    for number, name in enumerate(names):
        _render(out, name, number)
    document = pypdfium2.PdfDocument(out / "rotated.pdf")
    for page in document:
        page.set_rotation(90)
    document.save(out / "rotated-page.pdf")
    (out / "rotated-page.pdf").replace(out / "rotated.pdf")


if __name__ == "__main__":
    main()
