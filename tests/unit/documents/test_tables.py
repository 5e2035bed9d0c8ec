"""What each row of a table is, columns that are made of blanks, and notes: alike in all formats."""

from __future__ import annotations

import re

import pytest

from assistant.documents.formats import convert
from assistant.documents.notes import with_notes
from assistant.documents.page import Page
from assistant.documents.parsing.html import read_html
from assistant.documents.parsing.markdown import read_markdown
from assistant.domain.documents import UnitKind
from tests.unit.documents.scene import lost, parsed, units


def in_formats(*lines: str) -> dict[str, Page]:
    """Return a table of lines "a;b" as separated values, HTML without names, and Markdown."""
    rows = [line.split(";") for line in lines]
    body = "".join("<tr>" + "".join(f"<td>{text}</td>" for text in row) + "</tr>" for row in rows)
    marked = ["| " + " | ".join(row) + " |" for row in rows]
    marked.insert(1, "|---" * len(rows[0]) + "|")
    return {
        "csv": convert("a.csv", "\n".join(lines).encode()),
        "html": read_html(f"<table>{body}</table>"),
        "markdown": read_markdown("\n".join(marked)),
    }


TABLES: dict[str, tuple[list[str], list[str]]] = {
    "titles between rows": (
        ["Visit;Fee", "With an appointment;", "Skin check;30", "Without;", "Skin check;55"],
        [
            "With an appointment",
            "With an appointment > Visit: Skin check; Fee: 30",
            "Without",
            "Without > Visit: Skin check; Fee: 55",
        ],
    ),
    "a long title between titles": (
        [
            "Plant;Pot;Price",
            "Indoor;;",
            "Fern;2 L;$9",
            "Rare (call before you sell any of these);;",
            "Oak;9 L;$90",
        ],
        [
            "Indoor",
            "Indoor > Plant: Fern; Pot: 2 L; Price: $9",
            "Rare (call before you sell any of these)",
            "Rare (call before you sell any of these) > Plant: Oak; Pot: 9 L; Price: $90",
        ],
    ),
    "names of another unit than the values": (
        ["Drug;9-15 °C;16-25 °C;Then", "Parsel;14 days;28 days;-", "Suxarel;48 h;2 h;bin it"],
        [
            "Drug: Parsel; 9-15 °C: 14 days; 16-25 °C: 28 days; Then: -",
            "Drug: Suxarel; 9-15 °C: 48 h; 16-25 °C: 2 h; Then: bin it",
        ],
    ),
    "an empty cell means as above": (
        ["Plan;Tier;Copay", "Amber;1;5", ";2;18", "Cobalt;1;0", ";2;9"],
        [
            "Plan: Amber; Tier: 1; Copay: 5",
            "Plan: Amber; Tier: 2; Copay: 18",
            "Plan: Cobalt; Tier: 1; Copay: 0",
            "Plan: Cobalt; Tier: 2; Copay: 9",
        ],
    ),
    "a second line of a row": (
        ["Drug;Brand;Reason", "DRONEDARONE;MULTAQ;harm", ";;alternative: amiodarone"],
        [
            "Drug: DRONEDARONE; Brand: MULTAQ; Reason: harm",
            "Drug: DRONEDARONE; Brand: MULTAQ; Reason: alternative: amiodarone",
        ],
    ),
    "marks are of their rows alone": (
        ["New;Item;Price", "x;Cane;$20", ";Rail;$60", "x;Ramp;$900"],
        ["New: x; Item: Cane; Price: $20", "Item: Rail; Price: $60", "New: x; Item: Ramp; Price: $900"],
    ),
    "a sum belongs to no row": (
        ["Item;Qty;Cost", "Gloves;10;$5", "Masks;20;$8", ";30;$13"],
        ["Item: Gloves; Qty: 10; Cost: $5", "Item: Masks; Qty: 20; Cost: $8", "Qty: 30; Cost: $13"],
    ),
    "the first name again": (
        ["Site 7;4 May;5 May", "Pool;open;shut", "Gym;shut;open", "Site 7;11 May;12 May", "Pool;shut;open"],
        [
            "Site 7: Pool; 4 May: open; 5 May: shut",
            "Site 7: Gym; 4 May: shut; 5 May: open",
            "Site 7: Pool; 11 May: shut; 12 May: open",
        ],
    ),
    "most names again": (
        ["Week 1;Mon;Tue", "Ann;early;late", "Week 2;Mon;Tue", "Ann;off;early"],
        ["Week 1: Ann; Mon: early; Tue: late", "Week 2: Ann; Mon: off; Tue: early"],
    ),
    "names in two rows, with a unit and the first ones below": (
        [";;Night;;Power", "Quay;Length;Low;July;kWh", "North;8 m;$18;$24;$3", "South;9 m;$20;$26;$4"],
        [
            "Quay: North; Length: 8 m; Night Low: $18; Night July: $24; Power kWh: $3",
            "Quay: South; Length: 9 m; Night Low: $20; Night July: $26; Power kWh: $4",
        ],
    ),
    "other names for other values": (
        ["Paper;Fee;Days", "Pass;$6;1", "Visa;$9;3", "Hall;Rent;Key", "Mill;$85;porter", "Vines;$64;bar"],
        [
            "Paper: Pass; Fee: $6; Days: 1",
            "Paper: Visa; Fee: $9; Days: 3",
            "Hall: Mill; Rent: $85; Key: porter",
            "Hall: Vines; Rent: $64; Key: bar",
        ],
    ),
    "words between numbers are values": (
        ["Way;Fee;Days", "Post;$6;1", "Van;$9;3", "Fetch;free;at once", "Boat;$7;5", "Air;$50;2"],
        [
            "Way: Post; Fee: $6; Days: 1",
            "Way: Van; Fee: $9; Days: 3",
            "Way: Fetch; Fee: free; Days: at once",
            "Way: Boat; Fee: $7; Days: 5",
            "Way: Air; Fee: $50; Days: 2",
        ],
    ),
    "names below a title end with it": (
        [
            "Part;Price;Shelf",
            "Brakes;;",
            "Pad;$38;C12",
            "Motor;;",
            "Part;Hire;Warranty",
            "Battery;$44;12 m",
            "Box;;",
            "Hood;$26;A3",
            "Labour costs $1 a minute in all shops;;",
        ],
        [
            "Brakes",
            "Brakes > Part: Pad; Price: $38; Shelf: C12",
            "Motor",
            "Motor > Part: Battery; Hire: $44; Warranty: 12 m",
            "Box",
            "Box > Part: Hood; Price: $26; Shelf: A3",
            "Labour costs $1 a minute in all shops",
        ],
    ),
    "as above below a column of codes and at the end": (
        [
            "Group;Code;Aid;For;Ask",
            "Walk;31.017.1;stick;adult;0555-0131",
            ";31.017.2;;child;",
            ";31.018.1;frame;adult;0555-0132",
            ";31.018.2;;child;",
        ],
        [
            "Group: Walk; Code: 31.017.1; Aid: stick; For: adult; Ask: 0555-0131",
            "Group: Walk; Code: 31.017.2; Aid: stick; For: child; Ask: 0555-0131",
            "Group: Walk; Code: 31.018.1; Aid: frame; For: adult; Ask: 0555-0132",
            "Group: Walk; Code: 31.018.2; Aid: frame; For: child; Ask: 0555-0132",
        ],
    ),
    "a row that other tables have too is no title": (
        ["Area;Day;Out", "Ring;Monday;early", "Port;;", "Hill;Friday;late", "Area;Fast;Late", "Port;$65;$26"],
        [
            "Area: Ring; Day: Monday; Out: early",
            "Area: Port; Day: Monday; Out: early",
            "Area: Hill; Day: Friday; Out: late",
            "Area: Port; Fast: $65; Late: $26",
        ],
    ),
    "as above beside a column that names each row": (
        ["Id;Floor;Bay;Item", "K1;Low;G1;Rope", "K2;;;Tent", "K3;;G2;Stove", "K4;High;F1;Map"],
        [
            "Id: K1; Floor: Low; Bay: G1; Item: Rope",
            "Id: K2; Floor: Low; Bay: G1; Item: Tent",
            "Id: K3; Floor: Low; Bay: G2; Item: Stove",
            "Id: K4; Floor: High; Bay: F1; Item: Map",
        ],
    ),
    "ditto marks": (
        ["Plan;Fee;Who", "Gold;$5;Ann", "Blue;\u3003;- '' -"],
        ["Plan: Gold; Fee: $5; Who: Ann", "Plan: Blue; Fee: $5; Who: Ann"],
    ),
    "other names below an empty row": (
        ["Week 1;Mon;Tue", "Ann;early;late", ";;", "Week 2;Mon;Tue", "Ann;off;early"],
        ["Week 1: Ann; Mon: early; Tue: late", "Week 2: Ann; Mon: off; Tue: early"],
    ),
    "names with other numbers": (
        ["Week 1;Mon 1;Tue 2", "Ann;early;late", "Ben;off;late", "Week 2;Mon 8;Tue 9", "Ann;off;early"],
        [
            "Week 1: Ann; Mon 1: early; Tue 2: late",
            "Week 1: Ben; Mon 1: off; Tue 2: late",
            "Week 2: Ann; Mon 8: off; Tue 9: early",
        ],
    ),
    "dates are titles, and notes are of no title": (
        [
            "Item;Price;Stock",
            "From 1 May;;",
            "Sling;8;4",
            "From 1 June;;",
            "Sling;9;2",
            "* Children pay half;;",
            "Note: bring a card;;",
            "All prices include tax;;",
        ],
        [
            "From 1 May",
            "From 1 May > Item: Sling; Price: 8; Stock: 4",
            "From 1 June",
            "From 1 June > Item: Sling; Price: 9; Stock: 2",
            "* Children pay half",
            "Note: bring a card",
            "All prices include tax",
        ],
    ),
    "a triangle": (
        ["km;Ash;Brook;Cold", "Ash;0;;", "Brook;12;0;", "Cold;30;18;0"],
        ["km: Ash; Ash: 0", "km: Brook; Ash: 12; Brook: 0", "km: Cold; Ash: 30; Brook: 18; Cold: 0"],
    ),
    "names below a triangle": (
        ["Brook;12;;", "Cold;30;18;", "Dent;44;31;15", ";Ash;Brook;Cold"],
        ["Brook; Ash: 12", "Cold; Ash: 30; Brook: 18", "Dent; Ash: 44; Brook: 31; Cold: 15"],
    ),
    "names below a triangle whose first row has a name alone": (
        ["Ash;;;", "Brook;x;;", "Cold;o;x;", ";Ash;Brook;Cold"],
        ["Brook; Ash: x", "Cold; Ash: o; Brook: x", "Ash"],
    ),
    "titles in another column than the first": (
        [
            "Kind;Code;Name",
            ";;-- Scans: ask --",
            "Scan;S1;Head",
            ";S2;Knee",
            ";;-- Home: tell --",
            "Home;H1;Wash",
        ],
        [
            "-- Scans: ask --",
            "-- Scans: ask -- > Kind: Scan; Code: S1; Name: Head",
            "-- Scans: ask -- > Kind: Scan; Code: S2; Name: Knee",
            "-- Home: tell --",
            "-- Home: tell -- > Kind: Home; Code: H1; Name: Wash",
        ],
    ),
    "units below names": (
        ["Test;Low;High", ";mmol/L;mmol/L", "Sodium;135;145"],
        ["Test: Sodium; Low mmol/L: 135; High mmol/L: 145"],
    ),
}


@pytest.mark.parametrize("kind", TABLES)
def test_each_value_is_read_below_its_titles_and_names(kind: str) -> None:
    lines, expected = TABLES[kind]
    for name, page in in_formats(*lines).items():
        assert units(page) == expected, name


@pytest.mark.parametrize(
    ("between", "first"),
    [
        ("", "<td>Fig<td>3 L<td>9"),
        ("<p>(continued overleaf)</p>", "<td>Fig<td>3 L<td>9"),
        ("<h2>Stock (2/2)</h2>", "<td>Fig<td>3 L<td>9"),
    ],
)
def test_a_table_that_goes_on_has_the_names_above_the_break(between: str, first: str) -> None:
    above = "<table><tr><th>Tree<th>Pot<th>Fee<tr><td>Oak<td>2 L<td>4<tr><td>Elm<td>5 L<td>7</table>"
    page = read_html(f"{above}{between}<table><tr>{first}<tr><td>Yew<td>1 L<td>3</table>")
    rows = [unit.text for unit in parsed(page).units if unit.kind is UnitKind.ROW]
    assert rows[2:] == ["Tree: Fig; Pot: 3 L; Fee: 9", "Tree: Yew; Pot: 1 L; Fee: 3"]
    other = read_html(f"{above}<h2>Other</h2><table><tr>{first}<tr><td>Yew<td>1 L<td>3</table>")
    assert "Fig | 3 L | 9" in parsed(other).text


def test_names_above_an_empty_row_are_of_the_rows_below_it() -> None:
    lines = b"code;test;price\n;;\nBLOOD;;\nB1;Iron;4.50\nB2;Zinc;6.00\nB3;Lead;\n"
    assert units(convert("a.csv", lines))[1:3] == [
        "BLOOD > code: B1; test: Iron; price: 4.50",
        "BLOOD > code: B2; test: Zinc; price: 6.00",
    ]


def test_a_list_without_names_has_none() -> None:
    lines = ("HV;home visit, ask desk 9", "NC;new customer", "RB;ring back within 2 days")
    page = convert("a.csv", "\n".join(lines).encode())
    assert units(page) == [line.replace(";", " | ") for line in lines]


@pytest.mark.parametrize(
    "rows", ["Sync;5 min;6 min Copy;2 h;3 h Move;3 h;4 h", "A;5 days;6 days B;2 mg;3 mg C;3 l;4 l"]
)
def test_a_first_row_of_another_unit_is_none_of_names_where_each_has_its_own(rows: str) -> None:
    lines = re.split(" (?=[A-Z])", rows)
    assert units(in_formats(*lines)["html"])[0] == lines[0].replace(";", " | ")


@pytest.mark.parametrize(
    ("lines", "column"),
    [
        (["Team;Member;Fee", "Red;Ann;$50", ";Bob;", "Blue;Cid;$60", ";Dee;"], "Fee"),
        (["Plan;For;Mark", "Gold;adult;PA", ";child;", "Blue;adult;R", ";child;"], "Mark"),
        (["Id;Topic;Text", "T1;Fees;a b", "T2;;b c", "T3;Bikes;c d", "T4;;d e"], "Topic"),
        (["Who;No.;Fee", "Ann;1;$15", ";2;", ";3;$10", "Cid;1;$12"], "Fee"),
        (["Area;Under 5 kg;To 9 kg", "Port;$31;$19", "Hill;$36;", "Ring;$38;$22", "Quay;$9;$8"], "To 9 kg"),
        (["From;To;Why", "25 Aug;29 Aug;a", ";4 May;b", "3 Apr;6 Apr;c", "7 Jun;8 Jun;d"], "From"),
    ],
)
def test_empty_cells_in_doubt_stay_empty_and_are_told(lines: list[str], column: str) -> None:
    for page in in_formats(*lines).values():
        assert f"{column}:" not in units(page)[1]
        what = f'empty cells that may mean "as above" stay empty: {column}. Write each value in its row.'
        assert [loss.partition(" (")[0] for loss in lost(page)] == [what]


def test_names_that_name_nothing_are_a_row() -> None:
    page = read_html("<table><tr><th>Pass<th>$6<tr><td colspan=2>Ask first<tr><td colspan=2>Pay</table>")
    assert units(page) == ["Pass | $6", "Ask first", "Pay"]
    assert lost(page) == lost(read_html("<table><tr><th>Way<tr><td>By card</table>")) == ()


def test_a_note_that_a_delimiter_cuts_is_one() -> None:
    table = "Code;Item;Fee;For;Mark\nM-1;Glass;$34;all;x\nM-2;Road;$29;all;y\n"
    notes = "PC means part casco and FC full\nNotice one month before the due date; form KA-9\n"
    page = convert("a.csv", f"{table};;;;\n{notes}".encode())
    assert units(page)[2:] == [
        "PC means part casco and FC full",
        "Notice one month before the due date, form KA-9",
    ]


def test_a_title_across_a_table_of_th_names_no_column() -> None:
    page = read_html(
        "<table><tr><th>Visit</th><th>Fee</th></tr><tr><th colspan=2>With an appointment</th></tr>"
        "<tr><td>Skin check</td><td>30</td></tr><tr><th colspan=2>Without</th></tr>"
        "<tr><td>Skin check</td><td>55</td></tr></table>"
    )
    assert units(page)[1::2] == [
        "With an appointment > Visit: Skin check; Fee: 30",
        "Without > Visit: Skin check; Fee: 55",
    ]


@pytest.mark.parametrize("across", ["<td colspan=3>Mill", "<td>Mill<td><td>"])
def test_a_title_below_two_rows_of_names_is_no_third_one(across: str) -> None:
    names = "<tr><td>Hall<td colspan=2>Fee<tr><td><td>day<td>late<tr>"
    rows = f"<tr><td>1<td>45<td>30<tr>{across.replace('Mill', 'Pier')}<tr><td>2<td>40<td>25"
    assert units(read_html(f"<table>{names}{across}{rows}</table>")) == [
        "Mill",
        "Mill > Hall: 1; Fee day: 45; Fee late: 30",
        "Pier",
        "Pier > Hall: 2; Fee day: 40; Fee late: 25",
    ]


def test_a_part_between_empty_rows_has_cells_as_above_of_its_own() -> None:
    lines = [
        "Code;Test;Kit;Fee",
        "A1;Iron;Red;5.00",
        ";;;",
        ";Copy;;2.00",
        ";;;",
        "Late;Post;;1.00",
        ";Web;;0.50",
    ]
    assert units(convert("a.csv", "\n".join(lines).encode())) == [
        "Code: A1; Test: Iron; Kit: Red; Fee: 5.00",
        "Test: Copy; Fee: 2.00",
        "Code: Late; Test: Post; Fee: 1.00",
        "Code: Late; Test: Web; Fee: 0.50",
    ]


def test_a_note_beside_a_table_is_no_column_of_it() -> None:
    rows = [
        "Item;Hall;Pier;;Counted 12/09",
        "Cane;22;9;;Keep two",
        *(f"Bag {size};{size};4;;" for size in "6789"),
    ]
    assert units(convert("a.csv", "\n".join(rows).encode()))[0::5] == [
        "Item: Cane; Hall: 22; Pier: 9",
        "Counted 12/09",
    ]


# Columns made of blanks

BOATS = """\
BOATS            hour   day      BIKES         hour   day
Canoe            $8     $30      City bike     $4     $15
Kayak            $9     $35      Mountain bike $6     $22
  with sail      $12    $44      Tandem        $8     $30
"""


def test_a_code_below_another_one_has_the_words_before_that() -> None:
    lines = [
        "course     from   fee",
        "Choir      5-7    12",
        "Theory D1  12     1 800",
        "       D2  14       910",
    ]
    assert units(convert("a.txt", "\n".join(lines).encode()))[1:] == [
        "course: Theory D1; from: 12; fee: 1 800",
        "course: Theory D2; from: 14; fee: 910",
    ]


WINGS = """\
     | North   South
SIZE | wing    wing
S    | $5      $6
M    | $7      $8
L    | $9      $10
"""
GRID = """\
+---------------+----------------+
| Kind          | What to do     |
+===============+================+
| Parcel over   | form LP-3, wait|
| 20 dollars    | 10 days        |
+---------------+----------------+
"""
LOANS = """\
+---------+-------+----------------+--------+
| Kind    | Age   | Room / day     | Note   |
|         |       +--------+-------+        |
|         |       | Room   | Day   |        |
+=========+=======+========+=======+========+
| Cane    | 18-64 | 12     | Mon   | two,   |
|         |       |        |       | boxed  |
+---------+-------+--------+-------+--------+
"""
LISTED = """\
\u250c\u2500\u2500\u2500\u2500\u252c\u2500\u2500\u2500\u2500\u2510
\u2502 id \u2502 fee\u2502
\u251c\u2500\u2500\u2500\u2500\u253c\u2500\u2500\u2500\u2500\u2524
\u2502 A1 \u2502 8  \u2502
\u2502 B2 \u2502 9  \u2502
\u2514\u2500\u2500\u2500\u2500\u2534\u2500\u2500\u2500\u2500\u2518
"""
RATES = """\
                 --- weekdays ---          Saturday
ZONE           UP TO 2 KG    2-5 KG   UP TO 2 KG    2-5 KG    LAST
Centre               2.45      3.80         3.15      4.60    18:00
Hill villages (1)    5.20      6.90            -         -    11:30
Ask at the desk.  Closed on Sundays.
Ring road            3.35      4.75         4.25      5.55    16:45
All in euros. No tax.    * 150 if moving up from our own shop
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            RATES,
            [
                "ZONE: Centre; weekdays UP TO 2 KG: 2.45; weekdays 2-5 KG: 3.80; Saturday UP TO 2 KG: 3.15; "
                "Saturday 2-5 KG: 4.60; LAST: 18:00",
                "ZONE: Hill villages (1); weekdays UP TO 2 KG: 5.20; weekdays 2-5 KG: 6.90; "
                "Saturday UP TO 2 KG: -; Saturday 2-5 KG: -; LAST: 11:30",
                "Ask at the desk. Closed on Sundays.",
                "ZONE: Ring road; weekdays UP TO 2 KG: 3.35; weekdays 2-5 KG: 4.75; "
                "Saturday UP TO 2 KG: 4.25; Saturday 2-5 KG: 5.55; LAST: 16:45",
                "All in euros. No tax. * 150 if moving up from our own shop",
            ],
        ),
        (
            "Item       Qty           Price\nCanoe             2       8.00\nKayak            12      10.00\n"
            "Tandem            1     110.00\n",
            [
                "Item: Canoe; Qty: 2; Price: 8.00",
                "Item: Kayak; Qty: 12; Price: 10.00",
                "Item: Tandem; Qty: 1; Price: 110.00",
            ],
        ),
        (
            "Item\t\tday\nCanoe\t\t$8\nMountain bike\t$6\n",
            ["Item: Canoe; day: $8", "Item: Mountain bike; day: $6"],
        ),
        (
            "Item ........ day\nCanoe ....... $8\nKayak ....... $9\n",
            ["Item: Canoe; day: $8", "Item: Kayak; day: $9"],
        ),
        (
            LOANS,
            ["Kind: Cane; Age: 18-64; Room / day Room: 12; Room / day Day: Mon; Note: two, boxed"],
        ),
        (LISTED, ["id: A1; fee: 8", "id: B2; fee: 9"]),
        (
            BOATS,
            [
                "BOATS: Canoe; hour: $8; day: $30",
                "BOATS: Kayak; hour: $9; day: $35",
                "BOATS: Kayak with sail; hour: $12; day: $44",
                "BIKES: City bike; hour: $4; day: $15",
                "BIKES: Mountain bike; hour: $6; day: $22",
                "BIKES: Tandem; hour: $8; day: $30",
            ],
        ),
        (
            WINGS,
            [
                "SIZE: S; North wing: $5; South wing: $6",
                "SIZE: M; North wing: $7; South wing: $8",
                "SIZE: L; North wing: $9; South wing: $10",
            ],
        ),
        (GRID, ["Kind: Parcel over 20 dollars; What to do: form LP-3, wait 10 days"]),
    ],
)
def test_aligned_text_is_read_by_its_columns(text: str, expected: list[str]) -> None:
    assert units(convert("a.txt", text.encode())) == expected
    assert units(read_html(f"<pre>{text}</pre>")) == expected
    assert units(read_markdown(text)) == expected


CODES = """\
CODE  WHAT              FEE
----  ----------------  -----

  ** METER **
201   Exchange          $60
202   Relocate          -

  ** LIGHTS **
301   Install           $40
302   Shield            $25
"""
HOURS = """\
Item     Adult    Child
Swim     $5       $3
Sauna    $9       $7
Bath     $8       $6

Mon      8-17     9-17
Tue      9-17     9-18
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            CODES,
            [
                "** METER **",
                "** METER ** > CODE: 201; WHAT: Exchange; FEE: $60",
                "** METER ** > CODE: 202; WHAT: Relocate; FEE: -",
                "** LIGHTS **",
                "** LIGHTS ** > CODE: 301; WHAT: Install; FEE: $40",
                "** LIGHTS ** > CODE: 302; WHAT: Shield; FEE: $25",
            ],
        ),
        (
            "3. Party  Sat 14.00  Sun 11.00\nto 15     $142.00    $128.00\n16 to 30  $196.00    $179.00\n\n"
            "31 to 40  -          $225.00\n",
            [
                "3. Party: to 15; Sat 14.00: $142.00; Sun 11.00: $128.00",
                "3. Party: 16 to 30; Sat 14.00: $196.00; Sun 11.00: $179.00",
                "3. Party: 31 to 40; Sat 14.00: -; Sun 11.00: $225.00",
            ],
        ),
        (
            "HIRE, per hour\n\n  hall ....... $9\n  big bar .... $8\n  tent ....... $7\n",
            [
                "HIRE, per hour",
                *(f"HIRE, per hour > {row}" for row in ("hall | $9", "big bar | $8", "tent | $7")),
            ],
        ),
    ],
)
def test_a_blank_line_ends_no_table(text: str, expected: list[str]) -> None:
    assert units(convert("a.txt", text.encode())) == expected
    assert units(read_html(f"<pre>{text}</pre>")) == expected


def test_rows_with_other_values_below_a_blank_line_have_no_names_of_the_table_above() -> None:
    assert "Mon 8-17 9-17" in parsed(convert("a.txt", HOURS.encode())).text


def test_columns_that_cannot_be_told_apart_stay_lines_and_are_told() -> None:
    page = convert("a.txt", b"Canoe    $8\nask at the desk first\nKayak     $9\n")
    assert "Canoe $8\nask at the desk first\nKayak $9" in parsed(page).text
    assert [loss.split(",")[0] for loss in lost(page)] == ["aligned columns are shown as lines"]


@pytest.mark.parametrize(
    "text",
    [
        "a  b  1\n|    |    |\nc  d  2\ne  f  3\n|\n",
        "Zip   | 6 | 2\nTent  | 3 | 14 x\n---\nFull zip, jacket | 28 | 36 | 10\n| x   | ab\n",
        "a    1\n  . HOW TO PAY\nb    2\n",
    ],
)
def test_text_that_is_no_table_is_read_as_text(text: str) -> None:
    assert set(re.findall(r"\w+", text)) <= set(
        re.findall(r"\w+", parsed(convert("a.txt", text.encode())).text)
    )


GRID = """\
+----------+-------------+------+
| Bike     | Tow         | Day  |
|          +------+------+      |
|          | day  | late |      |
+==========+======+======+======+
| Moped    | 25   | 35   | 1    |
+----------+------+------+------+
| Car      | 65   | 85   | 4    |
+----------+------+------+------+
| RELEASE                       |
+----------+------+------+------+
| Paper    | Own  | Hire | Other|
+----------+------+------+------+
| Card     | yes  | copy | no   |
+----------+------+------+------+
| Letter   | no   | yes  | copy |
+----------+------+------+------+
"""


def test_a_grid_has_titles_and_other_names_between_its_rows() -> None:
    assert units(convert("a.txt", f"yards\n{GRID}".encode())) == [
        "yards",
        "Bike: Moped; Tow day: 25; Tow late: 35; Day: 1",
        "Bike: Car; Tow day: 65; Tow late: 85; Day: 4",
        "RELEASE",
        "Paper: Card; Own: yes; Hire: copy; Other: no",
        "Paper: Letter; Own: no; Hire: yes; Other: copy",
    ]


TWO_GRIDS = """\
+------+-------+
| Item | Price |
+======+=======+
| Cane | 20 a  |
|      | month |
| Rail | 60    |
+------+-------+
Hours
+------+------+------+
| Day  | Open | Shut |
+------+------+------+
| Mon  | 8    | 12   |
| Tue  | 9    | 13   |
+------+------+------+
"""
HEAD = """\
Harbour Mutual Insurance           Page 2
         Claims department
22 High Street               12 March 2026
Plan         Basic     Plus       Premium
Dental       80         150           300
Glasses      40          90           200
Physio       10          20            40
"""


def test_each_grid_of_a_text_is_a_table_of_its_own() -> None:
    expected = ["Item: Cane; Price: 20 a month", "Item: Rail; Price: 60", "Hours"]
    expected += ["Day: Mon; Open: 8; Shut: 12", "Day: Tue; Open: 9; Shut: 13"]
    for page in (convert("a.txt", TWO_GRIDS.encode()), read_html(f"<pre>{TWO_GRIDS}</pre>")):
        assert units(page) == expected


def test_the_head_of_a_page_names_no_column() -> None:
    rows = ("Dental 80 150 300", "Glasses 40 90 200", "Physio 10 20 40")
    expected = ["Plan: {}; Basic: {}; Plus: {}; Premium: {}".format(*row.split()) for row in rows]
    for page in (convert("a.txt", HEAD.encode()), read_html(f"<pre>{HEAD}</pre>"), read_markdown(HEAD)):
        assert units(page)[-3:] == expected
        assert "Harbour Mutual Insurance Page 2" in parsed(page).text


def test_names_above_notes_alone_are_no_loss() -> None:
    page = read_html("<table><tr><th>Cane<th>out of stock<tr><td colspan=2>Ask in May.</table>")
    assert (units(page), lost(page)) == (["Cane | out of stock", "Ask in May."], ())


# Notes


@pytest.mark.parametrize(
    "page",
    [
        read_markdown(
            "## Guests\n\nGuests pay $6 a day[^g]\n\n## Bikes\n\nFree.\n\n[^g]: Guests are former staff.\n"
        ),
        read_html(
            "<h2>Guests</h2><p>Guests pay $6 a day<sup><a href='#n'>g</a></sup><h2>Bikes</h2><p>Free."
            "<ol><li id=n>Guests are former staff.</ol>"
        ),
        read_html(
            "<h2>Guests</h2><p>Guests pay $6 a day [g]<h2>Bikes</h2><p>Free.<p>[g] Guests are former staff."
        ),
    ],
)
def test_a_note_is_in_the_section_that_has_its_mark(page: Page) -> None:
    text = "Guests\n\nGuests pay $6 a day [g]\n\n[g] Guests are former staff.\n\nBikes\n\nFree."
    assert parsed(page).text == text


def test_a_note_of_the_same_section_stays() -> None:
    page = read_markdown("## Guests\n\nThey pay[^1]\n\nOr not.\n\n[^1]: Staff.\n\nThe end.\n")
    assert parsed(page).text == "Guests\n\nThey pay [1]\n\nOr not.\n\n[1] Staff.\n\nThe end."


@pytest.mark.parametrize(
    ("page", "text"),
    [
        (
            convert(
                "a.txt",
                b"Tour     Price   Day\nCanoe    $8 *   Mon\nKayak    $9     Tue\nRaft     $9     Wed\n"
                b"\n* members pay\n  half\n",
            ),
            "Tour: Canoe; Price: $8 *; Day: Mon; * members pay half\nTour: Kayak; Price: $9; Day: Tue\n"
            "Tour: Raft; Price: $9; Day: Wed\n\n* members pay\nhalf",
        ),
        (
            read_markdown(
                "## A\n|Tour|Price|\n|-|-|\n|Canoe|$8 (a)|\n\n## B\nOpen.\n\n(a) half.\n(b) old.\n"
            ),
            "A\n\nTour: Canoe; Price: $8 (a); (a) half.\n\n(a) half.\n\nB\n\nOpen.\n\n(b) old.",
        ),
        (
            read_html("<h2>A</h2><p>Canoe $8¹ a day<h2>B</h2><p>Open.<ul><li>¹ twice a year</ul>"),
            "A\n\nCanoe $8¹ a day\n\n¹ twice a year\n\nB\n\nOpen.",
        ),
        (
            convert("a.csv", b"Tour,Price\nCanoe,$8 1)\nKayak,$9\n1) only in the month of May or June\n"),
            "Tour: Canoe; Price: $8 1); 1) only in the month of May or June\nTour: Kayak; Price: $9\n\n"
            "1) only in the month of May or June",
        ),
        (
            read_html(
                "<h2>A</h2><table><tr><th>Tour<th>Price<th>Note<tr><td>Canoe<td>$8<td>B1</table>"
                "<h2>B</h2><p>B1: half."
            ),
            "A\n\nTour: Canoe; Price: $8; Note: B1; B1: half.\n\nB1: half.\n\nB\n\nB1: half.",
        ),
        (
            read_markdown(
                "+------+-------+\n| Tour | Price |\n+======+=======+\n| Fern | 8[^s] |\n+------+-------+\n\n"
                "[^s]: Half.\n"
            ),
            "Tour: Fern; Price: 8[s]; [s] Half.\n\n[s] Half.",
        ),
        (
            convert(
                "a.csv",
                b"Tour,Day,Late 1)\nCanoe,$8,\nKayak,$9 +,$3\n1) from 7 p.m. on to the end of the day\n"
                b"+ members pay half of it on any day\n",
            ),
            "Tour: Canoe; Day: $8\nTour: Kayak; Day: $9 +; Late 1): $3; + members pay half of it on any day, "
            "1) from 7 p.m. on to the end of the day\n\n1) from 7 p.m. on to the end of the day\n\n"
            "+ members pay half of it on any day",
        ),
    ],
)
def test_a_row_has_the_note_of_its_mark(page: Page, text: str) -> None:
    assert parsed(page).text == text


@pytest.mark.parametrize(
    "text",
    [
        "Name *\n\n- coat\n- map",
        "Name *\n\nBring:\n\n* coat\n* map",
        "Family (4)\n\n(1) first\n\n(4) then",
        "As (a) says\n\n(a) first\n\n(b) then",
        "*Never* 3 * 4\n\n* coat",
    ],
)
def test_lists_and_clauses_that_nothing_refers_to_stay(text: str) -> None:
    page = convert("a.txt", text.encode())
    assert with_notes(page.blocks) == [*page.blocks]


def test_of_notes_with_the_same_mark_the_nearest_below_counts() -> None:
    table = "|Tour|Price|\n|-|-|\n|{}|$8 *|\n\n\\* {}\n\n"
    page = read_markdown(f"## A\n{table.format('Canoe', 'May')}## B\n{table.format('Bike', 'June')}")
    rows = [unit.text for unit in parsed(page).units if unit.kind is UnitKind.ROW]
    assert rows == ["Tour: Canoe; Price: $8 *; * May", "Tour: Bike; Price: $8 *; * June"]
