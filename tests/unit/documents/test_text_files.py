"""Separated values and plain text as pages, and as the units that a search finds."""

from __future__ import annotations

from pathlib import Path

import pytest

from assistant.documents.formats import convert
from assistant.domain.documents import UnitKind
from tests.unit.documents.scene import TABLES, failure, lost, refusal, units, write


@pytest.mark.parametrize("kind", TABLES)
def test_each_cell_stands_under_the_names_of_its_own_table(kind: str) -> None:
    lines, expected = TABLES[kind]
    assert units(convert("a.csv", "\n".join(lines).encode())) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Price list spring\n\nName;Price EUR\nAspirin;4,50\n",
            ["Price list spring", "Name: Aspirin; Price EUR: 4,50"],
        ),
        ("Name;Price, EUR\nAspirin;4,50\n", ["Name: Aspirin; Price, EUR: 4,50"]),
        ("sep=;\nName;Price\nAspirin;4,50\n", ["Name: Aspirin; Price: 4,50"]),
        ('"sep=|"\r\nName|Price\r\nAspirin|4,50\r\n', ["Name: Aspirin; Price: 4,50"]),
        ('A,B,C\nx,"y; z",5\nu,"v; w",6\n', ["A: x; B: y; z; C: 5", "A: u; B: v; w; C: 6"]),
        ('"A"|"B"\n"x, y, z"|"u, v"\n"1, 2"|"3, 4"\n', ["A: x, y, z; B: u, v", "A: 1, 2; B: 3, 4"]),
        ('Tube\tInches\nLong\t5"\n', ['Tube: Long; Inches: 5"']),
        (
            "clinic,updated,version\nMercy,4/1/2026,3.0.0\nmade,code|1,code|1|type,fee|gross\nScan,611,RC,99\n",
            [
                "clinic: Mercy; updated: 4/1/2026; version: 3.0.0",
                "made: Scan; code|1: 611; code|1|type: RC; fee|gross: 99",
            ],
        ),
        (
            "Hale Co.;v2;2026;;;;\n;;out;;home;;\ncode;way;slow;fast;slow;fast;note\n"
            "FU;Fuel;9 %;8 %;7 %;6 %;x\n;Oil;none;none;none;none;\n",
            [
                "Hale Co. | v2 | 2026",
                "code: FU; way: Fuel; out slow: 9 %; out fast: 8 %; home slow: 7 %; home fast: 6 %; note: x",
                "code: FU; way: Oil; out slow: none; out fast: none; home slow: none; home fast: none",
            ],
        ),
        (
            "from 4 May;Peak;;Other;\nWho;Hall;Bar;Hall;Bar\nAdult;$9;$8;$7;$6\nChild;$5;$4;$3;$2\n",
            [
                "from 4 May",
                "Who: Adult; Peak Hall: $9; Peak Bar: $8; Other Hall: $7; Other Bar: $6",
                "Who: Child; Peak Hall: $5; Peak Bar: $4; Other Hall: $3; Other Bar: $2",
            ],
        ),
        (
            "Hire, per hour\nHall;$9\nBar;$8\n",
            ["Hire, per hour", "Hire, per hour > Hall | $9", "Hire, per hour > Bar | $8"],
        ),
        ("Sent by:;Phone:\nOrder 5;555\n", ["Sent by: | Phone:", "Order 5 | 555"]),
        (
            'Code;Price\n="00731";4,50\n"=""00084""";5,25\n',
            ["Code: 00731; Price: 4,50", "Code: 00084; Price: 5,25"],
        ),
        ('Item;Fee\n"Drops, "mild" kind";5\n', ['Item: Drops, "mild" kind; Fee: 5']),
        ('id,where\n1,"Street 1,\n12345 Town"\n', ["id: 1; where: Street 1, 12345 Town"]),
        ("Id;Sign;Fee\n1;<b>&#10060;</b> A&amp;B;5\n", ["Id: 1; Sign: \u274c A&B; Fee: 5"]),
        ("Id;Firm\n1;AT&T\n", ["Id: 1; Firm: AT&T"]),
        ('Name;Fees\nX-ray;"1,50\n2,50\n3,50"\n', ["Name: X-ray; Fees: 1,50, 2,50, 3,50"]),
    ],
)
def test_a_delimiter_cuts_no_number_and_no_title(text: str, expected: list[str]) -> None:
    assert units(convert("a.csv", text.encode())) == expected


def test_a_cell_of_two_lines_below_title_lines_is_no_lost_quote() -> None:
    text = 'Orders\n;Plant 3100\nNo.;Name;Note\n1187;Meier;"In part,\nrest later"\n1193;Kern;whole\n'
    assert units(convert("a.csv", text.encode()), UnitKind.ROW)[-2:] == [
        "No.: 1187; Name: Meier; Note: In part, rest later",
        "No.: 1193; Name: Kern; Note: whole",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "Fees\n\nName;Fee EUR\nX-ray;4,50\nScan;88,40\n",
            ["Name: X-ray; Fee EUR: 4,50", "Name: Scan; Fee EUR: 88,40"],
        ),
        ("Ward\tBeds\nNorth\t4\nSouth\t5\n", ["Ward: North; Beds: 4", "Ward: South; Beds: 5"]),
        ('"A","B","C"\n"x","y","1"\n"u","v","2"\n', ["A: x; B: y; C: 1", "A: u; B: v; C: 2"]),
        ("Ask first; then pay.\nPay first; then ask.\nAsk; pay.\n", []),
        ("Dear Ann, Bob,\nCome at 5, or 6,\nor 7, not later.\n", []),
        ("Name;Fee\nX-ray;4\n", []),
    ],
)
def test_lines_of_plain_text_that_one_delimiter_cuts_alike_are_rows(text: str, expected: list[str]) -> None:
    assert units(convert("a.txt", text.encode()), UnitKind.ROW) == expected


@pytest.mark.parametrize(
    ("rest", "cause"),
    [
        ('2,"open quote tube,4\n3,x,5\n4,y,6\n', "a quote has no end. Close it"),
        ('2,"open quote tube,4\n3,x,5\n4,"y",6\n', "a quote has no end. Close it"),
        (
            '2,"tube"s end" "lid,4\n3,x,5\n',
            "text follows the quote that ends a cell. Write a quote inside a cell twice",
        ),
    ],
)
def test_what_no_dialect_reads_is_refused_with_its_line_and_cause(rest: str, cause: str) -> None:
    reason = refusal("a.csv", f"id,name,n\n1,a,3\n{rest}".encode())
    where = "it is not CSV: in the row that begins in line 3, "
    assert reason == f"{where}{cause}, or export the file again."


@pytest.mark.parametrize(
    ("rows", "lines"),
    [
        ("Hose, soft,4\nCap,5\n", "2"),
        ("Cap,5\nHose, soft, grey,4\n", "3"),
        ("Cap,5\n\nSize,Depth,Fee\nS,2,3\n", ""),
    ],
)
def test_a_row_with_more_cells_than_those_around_it_is_told(rows: str, lines: str) -> None:
    what = "a row has more cells than those around it: check the quotes of its cells"
    told = (f"{what} (line {lines}).",) if lines else ()
    assert lost(convert("a.csv", f"Item,Fee\n{rows}".encode())) == told


def test_a_valid_cell_that_looks_like_rows_is_read_and_told() -> None:
    page = convert("a.csv", b'id,name,n\n1,a,3\n2,"open quote tube,4\n3,x,5\n4,"",6\n4,z",1\n')
    assert units(page)[-1].startswith("id: 2; name: open quote tube,4, 3,x,5, 4,")
    assert lost(page) == (
        "a cell in quotes looks like rows of the table: check where its quote ends (line 3).",
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (  # a cell of three lines whose middle one has as many commas as a row
            'Drug,Form,Limit,Note\nOmeprol,caps,30,"Ask first.\nFor ulcers, reflux, pain, cough.\nElse '
            'refuse."\n'
            "Ranitol,tabs,60,none\n",
            [
                "Drug: Omeprol; Form: caps; Limit: 30; Note: Ask first. For ulcers, reflux, pain, cough. "
                "Else refuse.",
                "Drug: Ranitol; Form: tabs; Limit: 60; Note: none",
            ],
        ),
        (
            'Item,Colors,Price\n"Sling \\"Soft\\"","grey, wide",8 dollars\nBrace,black,11 dollars\n',
            [
                'Item: Sling "Soft"; Colors: grey, wide; Price: 8 dollars',
                "Item: Brace; Colors: black; Price: 11 dollars",
            ],
        ),
        (
            'Size;Path\n"Hose 5\\"";"C:\\\\lists"\n"Hose 7\\"";"D:\\old"\n',
            ['Size: Hose 5"; Path: C:\\lists', 'Size: Hose 7"; Path: D:\\old'],
        ),
        ('Shelf, Item, Days\n1, "Gel, cold", 30\n2, Wrap, 14\n', None),
        ('"Shelf" ,"Item" ,"Days"\n"1" ,"Gel, cold" ,"30"\n"2" ,"Wrap" ,"14"\n', None),
    ],
)
def test_quotes_are_read_as_the_standard_says_before_any_guess(text: str, expected: list[str] | None) -> None:
    page = convert("a.csv", text.encode())
    usual = ["Shelf: 1; Item: Gel, cold; Days: 30", "Shelf: 2; Item: Wrap; Days: 14"]
    assert (units(page, UnitKind.ROW), lost(page)) == (expected or usual, ())


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_separated_values_are_read_by_their_delimiter_and_encoding(delimiter: str, encoding: str) -> None:
    rows = [["Ort", "Gebühr"], ["Köln", "5"], ['"a, b; c"', "6"]]
    raw = "\r\n".join(delimiter.join(row) for row in rows).encode(encoding)
    assert units(convert("a.csv", raw)) == ["Ort: Köln; Gebühr: 5", "Ort: a, b; c; Gebühr: 6"]


def test_markup_in_cells_is_read_as_html() -> None:
    rows = [
        'Step,"<p>Open <a href=""https://lab.example/7"">a site</a>.</p><ul><li>Sign</li></ul>",<img src=x>',
        "Tom &amp; Co,5 < 6 <br/>and more,7",
        "Twice,&lt;b&gt;bold&lt;/b&gt; &amp;amp; plain,8",
    ]
    page = convert("a.csv", "\n".join(["Name,Text,No", *rows]).encode())
    assert units(page) == [
        "Name: Step; Text: Open a site (https://lab.example/7). Sign",
        "Name: Tom & Co; Text: 5 < 6, and more; No: 7",
        "Name: Twice; Text: bold & plain; No: 8",
    ]
    assert lost(page) == ("pictures without text",)
    asked = convert("a.csv", b"Question,Answer\nHow <i>long</i>?,<ol><li>Ring.</li><li>Wait.</li></ol>\n")
    assert units(asked) == ["Question: How long?; Answer: 1. Ring. 2. Wait."]


def test_numbered_lines_of_plain_text_are_steps() -> None:
    converted = convert("a.txt", b"Refund\n\n9. Open the till.\n10) Count.")
    assert units(converted, UnitKind.STEP) == ["9. Open the till.", "10) Count."]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("cp1252", "The patient\u2019s fee is 5 € \u2013 ask at the desk."),
        ("cp1252", "Köln"),
        ("cp1252", "Keep at 5 °C, ½ tablet, 10 µg ± 2."),
        ("cp1252", "¿Cuánto cuesta la operación del señor Núñez?"),
        ("mac_roman", "The patient\u2019s fee"),
        ("mac_roman", "Die Gebühr für größere Geräte in Köln"),
        ("mac_roman", "Keep at 5 °C"),
        ("mac_roman", "Tylenol\u2122 and Advil\u00ae"),
        ("cp1251", "Пациент может перенести приём дважды."),
        ("cp1251", "Aspirin is Аспирин here"),
        ("cp1250", "Opłata za wizytę wynosi pięć złotych."),
        ("iso8859_2", "Pacjent może zmienić termin dwukrotnie, opłata pięć złotych."),
        ("koi8_r", "Пациент может перенести приём дважды."),
        ("iso8859_15", "Fee 5 €, Dépôt 9 €"),
        ("cp1253", "Ο ασθενής μπορεί να αλλάξει το ραντεβού δύο φορές."),  # noqa: RUF001
    ],
)
def test_an_encoding_without_a_mark_is_judged(encoding: str, text: str) -> None:
    assert convert("a.txt", text.encode(encoding)).title == text


@pytest.mark.parametrize(
    "raw",
    [
        "Dušan".encode("cp1252"),  # "Duöan" of a Mac is as plausible
        "患者は予約を二回まで無料で変更できます。".encode("shift_jis"),
        "Die Gebühr für größere Geräte".encode("cp850"),
        "┌──────────────────────────────────┐\n│ Kühlgel für Süße │".encode("cp850"),
        "Größe für Köln, naïve café".encode() + b"\xfc x",
        "ü".encode("utf-16-le"),
    ],
)
def test_an_encoding_that_cannot_be_told_is_refused(raw: bytes) -> None:
    assert "cannot be told from another one. Save it as UTF-8." in refusal("a.txt", raw)


def test_a_text_over_the_limit_names_the_limit(tmp_path: Path) -> None:
    long = write(tmp_path / "a.csv", "Name,Text\n" + "&,&\n" * 400_000)
    assert failure(long).reason == "it has 800,002 cells; at most 500,000 are read. Split the file."
    assert failure(long).own_id == "a.csv"
    write(long, "Name,Text\n" + f"{'&' * 400},{'&' * 9}\n" * 12_000)
    assert failure(long).reason == "its text is larger than 5,000,000 bytes. Split the file."
    with long.open("r+b") as file:
        file.truncate(5_000_001)
    assert failure(long).code == "too_large"


def test_a_sentence_goes_on_over_the_ends_of_lines() -> None:
    lines = (
        "PERMIT",
        "Free, but must be renewed each year with a letter of the employer not",
        "older than 30 days. Send to: Hall 3,",
        "Room 12.",
        "Coats are sold at the gate",
        "and hats inside",
    )
    assert units(convert("a.txt", "\n".join(lines).encode())) == [
        "PERMIT",
        "Free, but must be renewed each year with a letter of the employer not older than 30 days.",
        "Send to: Hall 3, Room 12.",
        "Coats are sold at the gate",
        "and hats inside",
    ]
