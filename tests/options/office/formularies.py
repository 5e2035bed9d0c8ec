"""Two small formularies in force that give some medicines other values, as files of four formats, and what an
agent asks of them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import docx
from docx.oxml import OxmlElement
from openpyxl import Workbook

Row = Sequence[str]
NORTH_NAMES = ("Medicine", "Strength", "Form", "Price each", "Status")
NORTH: Mapping[str, Sequence[Row]] = {
    "Nerve and pain": (
        ("Gabapentin", "100 mg", "capsule", "$0.03", "Listed"),
        ("Gabapentin", "300 mg", "capsule", "$0.09", "Listed"),
        ("Gabapentin", "600 mg", "tablet", "$0.17", "Listed"),
        ("Pregabalin", "75 mg", "capsule", "$0.22", "DO NOT PRESCRIBE"),
        ("Duloxetine", "30 mg", "capsule", "$0.31", "Listed"),
        ("Ibuprofen", "400 mg", "tablet", "$0.05", "Listed"),
        ("Ibuprofen", "600 mg", "tablet", "$0.06", "Listed"),
        ("Naproxen", "500 mg", "tablet", "$0.08", "Listed"),
        ("Tramadol", "50 mg", "tablet", "$0.11", "DO NOT PRESCRIBE"),
        ("Acetaminophen", "325 mg", "tablet", "$0.02", "Listed"),
    ),
    "Heart and blood pressure": (
        ("Lisinopril", "10 mg", "tablet", "$0.02", "Listed"),
        ("Lisinopril", "20 mg", "tablet", "$0.03", "Listed"),
        ("Amlodipine", "5 mg", "tablet", "$0.02", "Listed"),
        ("Metoprolol succinate", "50 mg", "tablet", "$0.12", "Prior authorization"),
        ("Losartan", "50 mg", "tablet", "$0.05", "Listed"),
        ("Hydrochlorothiazide", "25 mg", "tablet", "$0.01", "Listed"),
        ("Atorvastatin", "40 mg", "tablet", "$0.06", "Listed"),
        ("Apixaban", "5 mg", "tablet", "$8.90", "Prior authorization"),
    ),
    "Diabetes": (
        ("Metformin", "500 mg", "tablet", "$0.02", "Listed"),
        ("Metformin", "1000 mg", "tablet", "$0.04", "Listed"),
        ("Glipizide", "5 mg", "tablet", "$0.03", "Listed"),
        ("Insulin glargine", "100 units/mL", "pen", "$21.40", "Prior authorization"),
        ("Empagliflozin", "10 mg", "tablet", "$18.75", "Step therapy after metformin"),
    ),
    "Infections": (
        ("Amoxicillin", "500 mg", "capsule", "$0.07", "Listed"),
        ("Azithromycin", "250 mg", "tablet", "$0.55", "Listed"),
        ("Cephalexin", "500 mg", "capsule", "$0.12", "Listed"),
        ("Nitrofurantoin", "100 mg", "capsule", "$0.64", "Listed"),
        ("Doxycycline", "100 mg", "capsule", "$0.19", "Out of stock until June"),
    ),
}
SOUTH_NAMES = ("Drug", "Strength", "Price each", "Most in 30 days", "Status")
SOUTH: Mapping[str, Sequence[Row]] = {
    "Formulary": (
        ("Gabapentin", "300 mg", "$0.04", "90", "Listed"),
        ("Gabapentin", "600 mg", "$0.17", "60", "Listed"),
        ("Sertraline", "50 mg", "$0.04", "30", "Listed"),
        ("Escitalopram", "10 mg", "$0.06", "30", "Listed"),
        ("Bupropion XL", "150 mg", "$0.21", "30", "Prior authorization"),
        ("Lisinopril", "10 mg", "$0.02", "30", "Listed"),
        ("Apixaban", "5 mg", "$9.40", "60", "Prior authorization"),
        ("Levothyroxine", "50 mcg", "$0.09", "30", "Listed"),
        ("Levothyroxine", "75 mcg", "$0.10", "30", "Listed"),
        ("Albuterol inhaler", "90 mcg", "$14.80", "1", "Listed"),
        ("Montelukast", "10 mg", "$0.08", "30", "Listed"),
        ("Omeprazole", "20 mg", "$0.05", "30", "Listed"),
        ("Ondansetron", "4 mg", "$0.18", "20", "Limit of 20 tablets"),
        ("Prednisone", "20 mg", "$0.07", "10", "Listed"),
        ("Doxycycline", "100 mg", "$0.19", "20", "Listed"),
    ),
}


@dataclass(frozen=True, slots=True)
class RowQuestion:
    """A question as an agent types it."""

    text: str
    north: tuple[str, ...] = ()
    """Prices of the rows of the first formulary that answer."""
    south: tuple[str, ...] = ()
    holds: tuple[str, ...] = ()
    """What must be shown besides."""
    differs: bool = False
    """Whether the formularies give the same medicine other values."""


QUESTIONS = (
    RowQuestion("Can we prescribe pregabalin?", ("$0.22",), holds=("DO NOT PRESCRIBE",)),
    RowQuestion("price of gabapentin 300 mg", ("$0.09",), ("$0.04",), differs=True),
    RowQuestion("how much is gabapentin 300mg", ("$0.09",), ("$0.04",), differs=True),
    RowQuestion("gabapentin 600 cost?", ("$0.17",)),
    RowQuestion("What does apixaban cost per tablet?", ("$8.90",), ("$9.40",), differs=True),
    RowQuestion("apixiban price", ("$8.90",), ("$9.40",), differs=True),
    RowQuestion("is doxycycline in stock", ("$0.19",), ("$0.19",), holds=("Out of stock",), differs=True),
    RowQuestion("can pt get tramadol 50", ("$0.11",), holds=("DO NOT PRESCRIBE",)),
    RowQuestion("which strengths of ibuprofen do we have?", ("$0.05", "$0.06")),
    RowQuestion("ibuprofin 400 price pls", ("$0.05",)),
    RowQuestion("naproxen price?", ("$0.08",)),
    RowQuestion("does metoprolol succinate need a prior auth", ("$0.12",), holds=("Prior authorization",)),
    RowQuestion("empagliflozin requirements", ("$18.75",), holds=("after metformin",)),
    RowQuestion("compare sertraline and escitalopram", south=("$0.04", "$0.06")),
    RowQuestion("how many ondansetron tablets may a pt get in 30 days", south=("$0.18",)),
    RowQuestion("levothyroxine 75 mcg price", south=("$0.10",)),
    RowQuestion("levothyroxin 50mcg how much", south=("$0.09",)),
    RowQuestion("albuterol inhaler cost", south=("$14.80",)),
    RowQuestion("Is bupropion XL covered without authorization?", south=("$0.21",)),
    RowQuestion("insulin glargine pen price", ("$21.40",)),
    RowQuestion("What form does duloxetine come in?", ("$0.31",)),
    RowQuestion("metformin 1000", ("$0.04",)),
    RowQuestion("price of metformin and glipizide", ("$0.02", "$0.04", "$0.03")),
    RowQuestion("whats the price for nitrofurantoin 100 mg caps", ("$0.64",)),
    RowQuestion("azithromycin 250", ("$0.55",)),
    RowQuestion("hydrochlorothiazide 25 mg price", ("$0.01",)),
    RowQuestion("losartan vs amlodipine price", ("$0.05", "$0.02")),
    RowQuestion("prednisone max quantity", south=("$0.07",)),
    RowQuestion("lisinopril 20 mg tab price", ("$0.03",)),
    RowQuestion("cephalexin capsul price", ("$0.12",)),
)


def as_csv(tables: Mapping[str, Sequence[Row]], names: Row) -> bytes:
    written = io.StringIO()
    csv.writer(written).writerows(
        [names, *(row for of_part in tables.values() for row in of_part)],
    )
    return written.getvalue().encode()


def as_xlsx(tables: Mapping[str, Sequence[Row]], names: Row) -> bytes:
    book = Workbook()
    book.remove(book.worksheets[0])
    for title, rows in tables.items():
        sheet: Any = book.create_sheet(title)
        for row in (names, *rows):
            sheet.append(list(row))
    written = io.BytesIO()
    book.save(written)
    return written.getvalue()


def as_docx(tables: Mapping[str, Sequence[Row]], names: Row) -> bytes:
    document = docx.Document()
    for title, rows in tables.items():
        document.add_heading(title, 1)
        document.add_paragraph("Prices are what the patient pays for each.")
        table: Any = document.add_table(0, len(names))
        for row in (names, *rows):
            for cell, text in zip(table.add_row().cells, row, strict=True):
                cell.text = text
        table.rows[0]._tr.get_or_add_trPr().append(OxmlElement("w:tblHeader"))
    written = io.BytesIO()
    document.save(written)
    return written.getvalue()


def as_html(tables: Mapping[str, Sequence[Row]], names: Row) -> bytes:
    """Each medicine's name spans its rows."""
    parts = ["<!doctype html><html><body>"]
    for title, rows in tables.items():
        parts.append(f"<h2>{title}</h2><table><caption>Prices each</caption><tr>")
        parts += [*(f"<th>{name}</th>" for name in names), "</tr>"]
        for medicine, of_it in groupby(rows, key=lambda row: row[0]):
            for place, row in enumerate(together := list(of_it)):
                first = f"<td rowspan={len(together)}>{medicine}</td>" if place == 0 else ""
                parts.append(f"<tr>{first}{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>")
        parts.append("</table>")
    return "".join([*parts, "</body></html>"]).encode()


WRITTEN: Mapping[str, Callable[[Mapping[str, Sequence[Row]], Row], bytes]] = {
    "csv": as_csv,
    "xlsx": as_xlsx,
    "docx": as_docx,
    "html": as_html,
}
