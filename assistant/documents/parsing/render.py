"""Makes a document's text, sections, units and tables from the page model. Every format is rendered here.

Text that is not in force (struck, hidden, older mail) is left out and counted. Two texts that a reader sees
apart get a separator, and a raised number is never part of another one: "10" with a raised "2" is "10^2", not
102.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from assistant.documents import page as model
from assistant.documents.aligned import has_gaps
from assistant.documents.notes import note_marks, with_notes
from assistant.documents.parsing.text import TextBuilder, link_begin, row_line, unmarked
from assistant.documents.tables import Grid, grid_of
from assistant.documents.whole import with_rules_of_all
from assistant.domain.documents import ParsedDocument, UnitKind
from assistant.text.marks import LINK_BEGIN, LINK_END

_ALIGNED = "aligned columns are shown as lines, because it is not clear which texts belong together."
_DOUBTFUL = 'empty cells that may mean "as above" stay empty: {}. Write each value in its row.'
_SENTENCE_SIGNS = (".", ",", ";", ":", "!", "?")
_LONGEST_TOKEN = 100
"""Characters before a raised text that are looked at for the word it belongs to."""
_ELEMENT_SYMBOL = re.compile(r"[A-Z][a-z]?(?![^\W\d_])")
"""The symbol of a chemical element: a raised number before it is its mass, as in ^99mTc."""
_LENGTH_UNIT = re.compile(r"(?:\d\s?|/)[kcdmµμn]?m\Z")
"""A unit of length at the end, after a number or a slash, "5 cm" or "kg/m": a raised 2 or 3 after it is a
square or cube, even on a page that has a note 2."""
_LONGEST_UNIT = 3
"""Most letters of a word whose raised number is an exponent: "m²" and "cm²" are units, "visit¹" has a
note."""


@dataclass(frozen=True, slots=True)
class Rendered:
    parsed: ParsedDocument
    losses: tuple[model.Loss, ...]
    """What of the original is not in the text: first the converter's losses, then those of rendering, one for
    each kind and place."""


def render(page: model.Page) -> Rendered:
    """Return the page's text and what it leaves out. Raises DocumentInvalidError for a table of too many
    cells."""
    page, away = with_rules_of_all(page)
    renderer = _Renderer(note_marks(page.blocks))
    if page.banner:
        renderer.builder.block(page.banner)
    renderer.blocks(with_notes(page.blocks))
    parsed = replace(renderer.builder.build(), banner=page.banner)
    of_page = (replace(loss, at=renderer.start_of(loss.where)) for loss in page.losses)
    return Rendered(parsed, (*of_page, *away, *renderer.losses()))


def words_in(text: str) -> int:
    return len(text.split())


class _Renderer:
    """Adds the blocks of one page to ``builder`` in reading order; ``losses`` is complete after the last
    block."""

    def __init__(self, note_marks: frozenset[str]) -> None:
        self.builder = TextBuilder()
        self._note_marks = note_marks
        self._lost: Counter[tuple[str, str]] = Counter()
        """Lost words by kind ("struck words") and place ("page 3")."""
        self._lost_at: dict[tuple[str, str], int] = {}
        """Where in the text the first word of each kind and place is lost."""
        self._place: model.Place | None = None
        self._starts: dict[str, int] = {}
        """Where each place begins in the text: {"page 3": 2100}."""
        self._depth = 0
        """How many lists and tables are around the block."""
        self._marker = ""
        """Marker of the item that begins, "2. "; its first line takes it, so it is "" for further lines."""
        self._kind: UnitKind | None = None
        """Kind of the items of the list around; None outside of lists."""

    def losses(self) -> tuple[model.Loss, ...]:
        return tuple(
            model.Loss(*lost, words, at=self._lost_at.get(lost)) for lost, words in self._lost.items()
        )

    def start_of(self, where: str) -> int | None:
        """Return where the place of a loss begins in the text: that of its sheet for some rows of it."""
        found = [(len(name), at) for name, at in self._starts.items() if f"{where},".startswith(f"{name},")]
        return max(found)[1] if found else None

    def blocks(self, blocks: Iterable[model.Block]) -> None:
        for block in blocks:
            self._block(block)

    def _block(self, block: model.Block) -> None:
        if block.place is not None:
            self._enter_place(block.place)
        match block:
            case model.Heading():
                self.builder.heading(block.level, self._text(block.runs))
            case model.Paragraph(is_plain=True):
                self.builder.plain_block(unmarked(self._text(block.runs)))
            case model.List():
                self._list(block)
            case model.Table():
                self.builder.table(*self._table(block), depth=self._depth + 1)
            case _:
                for text in self._lines(block):
                    if has_gaps(text):
                        self._lost[_ALIGNED, str(self._place or "")] += 0
                    self._paragraph(text)

    def _enter_place(self, place: model.Place) -> None:
        if place.kind == "page" and (self._place is None or self._place.number != place.number):
            self.builder.page(place.number)
        self._starts.setdefault(str(place), self.builder.length)
        self._place = place

    def _lose(self, what: str, text: str) -> None:
        if words := words_in(text):
            lost = (what, str(self._place or ""))
            self._lost[lost] += words
            self._lost_at.setdefault(lost, self.builder.length)

    # Blocks

    def _paragraph(self, text: str) -> None:
        """Add a paragraph: outside of lists as a block, in an item as its first line or a further one."""
        if not unmarked(text).strip():
            return
        if self._kind is None:
            self.builder.block(text)
        elif self._marker:
            self.builder.item_or_row(self._marker + text.strip(), kind=self._kind, depth=self._depth)
            self._marker = ""
        else:  # a further paragraph of the item
            self.builder.item_or_row(text.strip(), kind=UnitKind.SENTENCE, depth=self._depth + 1)

    def _list(self, block: model.List) -> None:
        outer = self._kind, self._marker
        self._depth += 1
        for item in block.items:
            is_term = item.marker.endswith(":") and not block.is_ordered
            self._kind = (
                UnitKind.DEFINITION if is_term else UnitKind.STEP if block.is_ordered else UnitKind.ITEM
            )
            self._marker = f"{_shown_marker(item) or '-'} "
            self.blocks(item.blocks)
        self._depth -= 1
        self._kind, self._marker = outer
        if self._kind is None:
            self.builder.gap()

    def _caption(self, block: model.Figure) -> str:
        """Return a figure's words; one without any is a loss of 0 words, whose kind alone is reported."""
        text = self._text(block.caption)
        if not unmarked(text).strip():
            self._lost[f"{block.kind}s without text", str(self._place or "")] += 0
        return text

    def _table(self, block: model.Table) -> tuple[list[str], list[list[str]], list[str]]:
        """Return the names of a table's columns, the texts of its rows, and the titles above each of these.
        Names above empty columns are lost.

        Texts are by ``id(cell)``, because a cell that spans places is the same object at each of them.
        """
        grid = grid_of(block.rows)
        width = max(map(len, grid), default=0)
        pairs = (
            (cell, shown) for row in block.rows for cell, shown in zip(row, _with_name(row), strict=True)
        )
        texts = {id(cell): self._in_a_line(shown.blocks) for cell, shown in pairs}
        names = _joined_names(grid[: block.header_rows], texts, width)
        body = zip(grid[block.header_rows :], block.rows[block.header_rows :], strict=True)
        rows, titles = list[list[str]](), list[str]()
        open_titles, is_below = list[str](), True
        for row, cells in body:
            if not cells:  # a row in which no cell begins repeats the row above
                continue
            rows.append(_row_texts(row, texts, width, is_named=any(names)))
            is_title = len(rows[-1]) == 1 < width and cells[0].is_name
            if is_title:
                open_titles, is_below = [*([] if is_below else open_titles), unmarked(rows[-1][0])], False
            is_below = is_below or not is_title
            titles.append(" > ".join(open_titles) if is_below else "")
        used = {place for row in rows if len(row) >= min(width, 2) for place, text in enumerate(row) if text}
        if any(names) and not used:  # the row names nothing
            rows, names, titles = [names, *rows], [], ["", *titles]
        for place, name in enumerate(names):
            if place not in used:
                self._lose("names of empty columns", unmarked(name))
        if doubtful := [unmarked(names[place]) or str(place + 1) for place in block.doubtful]:
            self._lost[_DOUBTFUL.format(", ".join(doubtful)), str(self._place or "")] += 0
        return names, rows, titles

    # Text

    def _in_a_line(self, blocks: Iterable[model.Block]) -> str:
        """Return the text of a cell, note or item in one line, with marks of links. Lines are separated by
        commas, or by a space after a line that ends in a sign: "Fees", "First: $20" are "Fees, First:
        $20"."""
        parts: list[str] = []
        for block in blocks:
            parts += self._lines(block)
        line = ""
        for shown in filter(str.strip, (text for part in parts for text in part.split("\n"))):
            text = " ".join(shown.split())
            separator = " " if not line or unmarked(line).endswith(_SENTENCE_SIGNS) else ", "
            line = f"{line}{separator}{text}" if line else text
        return line

    def _lines(self, block: model.Block) -> list[str]:
        """Return the texts of a block: an item or a row of a table is one, any other block one as a whole."""
        match block:
            case model.Heading() | model.Paragraph():
                return [self._text(block.runs)]
            case model.Figure():
                return [self._caption(block)]
            case model.List():
                return [
                    f"{_shown_marker(item)} {text}".lstrip()
                    for item in block.items
                    if (text := self._in_a_line(item.blocks))
                ]
            case model.Table():
                names, rows, titles = self._table(block)
                if not any(names) and rows and all(len(row) == 2 and all(row) for row in rows):
                    return ["; ".join(map(": ".join, rows))]  # "GP: receipt; physio: receipt and number"
                pairs = zip(rows, titles, strict=True)
                return [row_line(row, names if len(row) > 1 else (), title)[0] for row, title in pairs]
            case model.Note():
                text = self._in_a_line(block.blocks)
                return [f"[{block.mark}] {text}" if block.mark and text else text]
            case model.OlderText():
                self._lose(model.OLDER_WORDS, " ".join(map(model.text_of, model.all_runs(block.blocks))))
                return []

    def _text(self, runs: model.Runs) -> str:
        """Return the text of the runs that is in force, with marks around the words of links
        (``text.link_begin``).

        Words on both sides of text that is left out do not join: ``at_gap`` is True after such a run.
        """
        text, at_gap = "", False
        for at, run in enumerate(runs):
            if not run.is_in_force:
                self._lose("struck words" if run.is_struck else "hidden words", run.text)
                at_gap = True
                continue
            shown = self._shifted(run, before=text, after=runs[at + 1 : at + 2]) if run.shift else run.text
            if at_gap and _would_join(unmarked(text), shown):
                shown = f" {shown}"
            at_gap = False
            is_link = run.link and not run.link.startswith("#") and shown.strip()
            begin = link_begin(run.link) if is_link else ""
            if begin and text.endswith(LINK_END) and text.rpartition(LINK_BEGIN)[2].startswith(begin[1:]):
                text = f"{text[:-1]}{shown}{LINK_END}"  # a link of several runs
            else:
                text += f"{begin}{shown}{LINK_END}" if begin else shown
        return text

    def _shifted(self, run: model.Run, *, before: str, after: model.Runs) -> str:
        """Return a raised or lowered text so that no number becomes part of another.

        Raised: "x" and "10" are "x^10", "cm" and "2" are "cm^2", "visit" and the note's mark "1" are
        "visit [1]". Lowered: "10" and "2" are "10_2", "H" and "2" are "H2".

        ``before`` is the text so far, ``after`` the next run or none. ``token`` is the word that the raised
        text follows, "" after a space.
        """
        shown = run.text.strip()
        if not shown:
            return run.text
        apart = " " if _would_join(shown, model.text_of(after)) else ""
        last_char, words_before = before[-1:], before[-_LONGEST_TOKEN:].split()
        token = words_before[-1] if words_before and not last_char.isspace() else ""
        if run.shift is model.Shift.LOWERED:
            apart = " " if shown[-1].isdigit() and model.text_of(after)[:1].isdigit() else ""
            return ("_" if last_char.isdigit() and shown[0].isdigit() else "") + shown + apart
        is_number = any(char.isdigit() for char in shown)
        is_note = shown in self._note_marks and not (shown in ("2", "3") and _LENGTH_UNIT.search(before))
        is_mark = run.is_note_mark or run.link.startswith("#") or is_note or shown[0] == "["
        if not is_mark and not token and shown[0].isdigit() and _ELEMENT_SYMBOL.match(model.text_of(after)):
            return f"^{shown}"
        if not is_mark and is_number:
            is_amount = token.endswith("%") or any(unicodedata.category(char) == "Sc" for char in token)
            is_unit = last_char.isalpha() and len(re.split(r"[\W\d_]", token)[-1]) <= _LONGEST_UNIT
            is_mark = is_amount or not (last_char.isdigit() or last_char == ")" or is_unit)
        if is_mark or (len(shown) == 1 and shown.islower() and last_char.isalpha()):
            return f"{' ' if token else ''}[{shown.strip('[]()')}]{apart}"
        if is_number or (last_char.isdigit() and shown[0] in "+-\u2212"):
            return f"^{shown}{apart}"
        return shown + apart


def _would_join(before: str, after: str) -> bool:
    """Return whether two texts would become one word or number."""
    return before[-1:].isalnum() and after[:1].isalnum()


def _shown_marker(item: model.Item) -> str:
    """Return the item's marker, "" for the sign of a bullet: "4." or "Fee:", but not "•"."""
    return item.marker if any(map(str.isalnum, item.marker)) else ""


# Tables


def _joined_names(header: Grid, texts: dict[int, str], width: int) -> list[str]:
    """Return a name for each column: the different texts of its header cells, from the top, "Fees First
    visit"."""
    columns = ([row[place] if place < len(row) else None for row in header] for place in range(width))
    return [
        " ".join(dict.fromkeys(filter(None, (texts[id(cell)] for cell in column if cell))))
        for column in columns
    ]


def _with_name(row: tuple[model.Cell, ...]) -> tuple[model.Cell, ...]:
    """Return a row; where only its first cells are struck, the first says "(struck: Larch)": a row
    without its name would say something of nothing."""
    runs = [[run for line in model.all_runs(cell.blocks) for run in line if run.text.strip()] for cell in row]
    is_left = any(run.is_in_force for others in runs[1:] for run in others)
    if not (is_left and runs[0] and all(run.is_struck and not run.is_hidden for run in runs[0])):
        return row
    name = " ".join(" ".join(run.text.split()) for run in runs[0])
    return (replace(row[0], blocks=(model.Paragraph(model.plain(f"(struck: {name})")),)), *row[1:])


def _row_texts(
    row: Sequence[model.Cell | None], texts: dict[int, str], width: int, *, is_named: bool
) -> list[str]:
    """Return the texts of a row by column. A cell across columns is repeated in each of them if the columns
    have names, else only the first has it. A row of one cell across all columns is one text: a title between
    rows."""
    if width > 1 and len(row) == width and len({id(cell) for cell in row}) == 1 and row[0] is not None:
        return [texts[id(row[0])]]
    before = (None, *row)
    return [
        texts[id(cell)] if cell and (is_named or cell is not before[at]) else ""
        for at, cell in enumerate(row)
    ]
