"""Finds what a file says of all that is in it, and what of it only its owner can judge.

A row is found and quoted alone. These texts stand away from the rows that they change, so they go into the
banner, which is beside each quote of the document::

    sheet "Read me":   All prices are in EUR.            a sheet of sentences beside sheets of tables
    sheet "Rooms":     DRAFT                             a mark, a currency or days above the first table
                       Room | Half day
                       Elm  | 55

Where reading would be a guess, ``days_not_read`` and ``contradictions`` tell the owner.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from itertools import accumulate, chain, groupby, islice
from operator import itemgetter

from assistant.documents.page import (
    SENTENCE_ENDS,
    Block,
    Heading,
    Loss,
    Page,
    Paragraph,
    Table,
    all_runs,
    banner_of,
    one_line,
    plain,
    text_of,
)
from assistant.documents.tables import with_names_of_before
from assistant.domain.documents import ParsedDocument, Unit, UnitKind
from assistant.text.editions import names_days_in_force, names_mark, says_in_force
from assistant.text.language import WORD, fold, word_groups
from assistant.text.values import SECONDS, amount_of, quantities

_FIRST_TEXTS, _LONGEST_TERM = 5, 160
"""First texts, and characters of one that may hold for all of a document."""
_STROKE = re.compile(r"[-_=*\u2014]{3,}[^\S\n]*(?:\n\s*|\Z)")
_CURRENCY = re.compile(r"(?<![^\W_])(?<!\d\s)(?:[$\u20ac\u00a3\u00a5](?![\w{(])|[A-Z]{3}\b)(?!\s?\d)")
"""What may be a currency, and is beside no number."""
_MONEY = re.compile(
    r"([$\u20ac\u00a3\u00a5])\s?(\d+(?:[.,]\d+)*)|(?<![\w.,])(\d+(?:[.,]\d+)*)\s?(\u20ac|[A-Z]{3}\b)"
)
_CENTS = re.compile(r"[.,]00?\Z")
_DIGIT = re.compile(r"\d")
_FEWEST_LETTERS = 4
"""Letters of an item that is looked for in sentences."""
_SHOWN_CHARACTERS = 80
_MOST_DOUBTS, _MOST_COMPARED = 3, 50
"""Contradictions that the owner sees. Rows, cells of a row and items of a first word that are compared: it
bounds the time."""
_SIGNS = frozenset("$\u20ac\u00a3\u00a5")
_CURRENCIES = word_groups("currencies")["codes"]
_Row = tuple[Unit, list[str]]
"""A row with the texts of its cells."""
_Amount = tuple[str, str]
"""What it counts, and how many: ("EUR", "40")."""


def with_rules_of_all(page: Page) -> tuple[Page, list[Loss]]:
    """Return the page with what it says of all of its rows in its banner; and a loss for what is too long for
    that."""
    page = _with_amendment(replace(page, blocks=tuple(with_names_of_before(page.blocks))))
    lines, gone, losses = dict.fromkeys(filter(None, [page.banner])), set[int](), list[Loss]()
    for rules in _rules_of_all(page.blocks):
        texts = [_text(block) for block in rules if not isinstance(block, Heading)]
        if all(texts) and not banner_of(longer := dict.fromkeys((*lines, *texts)))[1]:
            lines, gone = longer, gone.union(map(id, rules))
        elif gone.isdisjoint(map(id, rules)):
            shown = _shortened(texts[0])
            losses.append(Loss(f'what may hold for all of it ("{shown}") is not beside each row of it.'))
    blocks = tuple(block for block in page.blocks if id(block) not in gone)
    return replace(page, blocks=blocks, banner=banner_of(lines)[0]), losses


def is_stroke(block: Block) -> bool:
    """Return whether a block is a line of strokes, as readers make of what is drawn between texts."""
    return _STROKE.fullmatch(_bare(block)) is not None


def _with_amendment(page: Page) -> Page:
    """Return the page without its strokes. A short text below its only one, under no heading of its own, is
    an amendment of what is above, and goes into the banner."""
    drawn = [at for at, block in enumerate(page.blocks) if _STROKE.match(_bare(block))]
    if not drawn:
        return page
    above, rest = page.blocks[: drawn[0]], map(_without_stroke, page.blocks[drawn[0] :])
    below = [block for block in rest if not isinstance(block, Paragraph) or block.runs]
    texts = [_text(block) if isinstance(block, Paragraph) else "" for block in below]
    headings = any(isinstance(block, Heading) for block in above)
    has_parts = sum(isinstance(block, Heading | Table) for block in above) > 1
    banner, left_over = banner_of(filter(None, [page.banner, *texts]))
    is_short = bool(above and texts) and all(texts) and not left_over and not drawn[1:]
    if is_short and (has_parts or (not headings and texts[-1].endswith(SENTENCE_ENDS))):
        return replace(page, blocks=above, banner=banner)
    return replace(page, blocks=(*above, *below))


def _bare(block: Block) -> str:
    return text_of(block.runs).lstrip() if isinstance(block, Paragraph) else ""


def _without_stroke(block: Block) -> Block:
    text = _bare(block)
    is_drawn = isinstance(block, Paragraph) and _STROKE.match(text)
    return replace(block, runs=plain(_STROKE.sub("", text, count=1))) if is_drawn else block


def _rules_of_all(blocks: Sequence[Block]) -> Iterator[Sequence[Block]]:
    """Yield the texts that hold for all blocks: of the begin, of lines such as "Currency | EUR", and of each
    sheet without a table."""
    numbers = accumulate(isinstance(block, Heading) for block in blocks)
    numbered = groupby(zip(numbers, blocks, strict=True), itemgetter(0))
    parts = [[block for _, block in part] for _, part in numbered]
    tables = [block for block in blocks if isinstance(block, Table) and not _is_text(block)]
    if len(parts) < 2 and not tables:
        return
    head = [*_head(blocks)]
    is_priced = any(_names_currency(_text(block)) for block in head) and any(
        _names_currency(_text(table), is_price=True) for table in tables
    )
    yield from ([block] for block in head if _holds_for_all(_text(block), is_priced=is_priced))
    if len(tables) > 1:
        yield from ([line] for table in tables for line in _lines_of(table))
    for first, *texts in parts if tables else ():
        is_sheet = isinstance(first, Heading) and first.place is not None and first.place.kind == "sheet"
        if is_sheet and texts and all(map(_is_text, texts)):
            yield [first, *texts]


def _is_text(block: Block) -> bool:
    """Return whether a block is a text, or lines of one cell as a sheet has them."""
    is_lines = isinstance(block, Table) and all(len(row) == 1 for row in block.rows)
    return is_lines or isinstance(block, Paragraph)


def _head(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yield the first texts, above the first table and the second section."""
    texts = 0
    for block in blocks:
        is_heading = isinstance(block, Heading)
        if texts == _FIRST_TEXTS or (texts and is_heading) or not (is_heading or _is_text(block)):
            return
        if not is_heading:
            texts += 1
            yield block


def _lines_of(table: Table) -> Iterator[Paragraph]:
    """Yield the lines "Valid from: 1 May 2027" and "Currency: EUR" of a table of two columns; of several
    currencies none holds for all."""
    is_of_lines = max(map(len, table.rows), default=0) == 2
    lines = [[" ".join(map(_text, cell.blocks)) for cell in row] for row in table.rows if len(row) == 2]
    is_of_one = sum(_names_currency(value) for _, value in lines) == 1
    for key, value in lines if is_of_lines else ():
        if says_in_force(key) or (is_of_one and _names_currency(value)):
            yield Paragraph(plain(f"{key}: {value}"))


def _holds_for_all(text: str, *, is_priced: bool) -> bool:
    """Return whether a text has a mark, days in force, or a currency that no amount has (``is_priced``)."""
    is_rule = names_mark(text) or names_days_in_force(text) or (not is_priced and _names_currency(text))
    return 0 < len(text) <= _LONGEST_TERM and is_rule


def _names_currency(text: str, *, is_price: bool = False) -> bool:
    """Return whether a text names a currency apart from an amount; ``is_price``: or beside one."""
    names = {name for match in _MONEY.findall(text) for name in match} if is_price else set[str]()
    names |= set() if text.isupper() and " " in text else {*_CURRENCY.findall(text)}
    return any(name in _CURRENCIES or name in _SIGNS for name in names)


def _text(block: Block) -> str:
    """Return the texts of a block in one line; "" where some of it is not in force or leads elsewhere."""
    texts = [*all_runs([block])]
    is_bare = all(run.is_in_force and not run.link for runs in texts for run in runs)
    return "; ".join(one_line(text_of(runs)) for runs in texts) if is_bare else ""


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"{text[: _SHOWN_CHARACTERS - 1]}…"


# What only the owner can judge


def days_not_read(parsed: ParsedDocument, title: str) -> Iterator[Loss]:
    """Yield a loss for the first text near the begin or at the end that says when a document is in force:
    what else a sentence with such days may mean ("Vouchers are valid until May"), only its readers know."""
    texts = [unit.text for unit in parsed.units if unit.kind is not UnitKind.ROW]
    headings = [heading for section in parsed.sections[:1] for heading in section.headings]
    first = (parsed.banner, *texts[:_FIRST_TEXTS], title, *headings, *texts[_FIRST_TEXTS:][-1:])
    near = (text for text in first if len(text) <= _LONGEST_TERM)
    if term := next((text for text in near if names_days_in_force(text) or names_mark(text)), ""):
        yield Loss(f'when it is in force ("{term}") was not read')


def contradictions(parsed: ParsedDocument) -> Iterator[Loss]:
    """Yield a loss for two rows that differ in an amount alone, and for a sentence that has another amount
    of the item of a row: which of them holds, only the owner knows."""
    by_end = {row[-1].end: (at, row) for at, table in enumerate(parsed.tables) for row in table.rows if row}
    tables, copies = defaultdict[object, list[_Row]](list), defaultdict[object, list[_Row]](list)
    for unit in parsed.units:
        if unit.kind is UnitKind.ROW and unit.span.end in by_end:
            at, spans = by_end[unit.span.end]
            tables[at].append((unit, [parsed.text[span.start : span.end] for span in spans]))
            copies[parsed.tables[at].header].append(tables[at][-1])
    groups = [*tables.values(), *(rows for rows in copies.values() if _has_same(rows))]
    pairs = chain(*map(_unlike_rows, groups), _unlike_texts([*chain(*tables.values())], parsed.units))
    for row, other in islice(dict.fromkeys(pairs), _MOST_DOUBTS):
        yield Loss(f'"{_shortened(row.text)}" and "{_shortened(other.text)}" may contradict each other.')


def _has_same(rows: Sequence[_Row]) -> bool:
    return len({tuple(texts) for _, texts in rows}) < len(rows)


def _unlike_rows(rows: Sequence[_Row]) -> Iterator[tuple[Unit, Unit]]:
    """Yield rows of a table that are the same but for an amount. Where several items have more than one row,
    these are hours, sizes or days."""
    counts = Counter(item for item, *_ in {tuple(texts) for _, texts in rows})
    again = {item for item, count in counts.items() if item and count > 1}
    seen = dict[tuple[str, ...], tuple[Unit, str]]()
    for unit, texts in rows if 10 * len(again) <= max(10, len(counts)) else ():
        path = unit.text.partition(texts[0])[0] if texts[0] in again else ""
        for at, text in enumerate(texts) if texts[0] in again and len(texts) <= _MOST_COMPARED else ():
            other, value = seen.setdefault((path, f"{at}", *texts[:at], *texts[at + 1 :]), (unit, text))
            if at and value != text and _DIGIT.search(value) and _DIGIT.search(text):
                yield other, unit


def _unlike_texts(rows: Sequence[_Row], units: Sequence[Unit]) -> Iterator[tuple[Unit, Unit]]:
    """Yield rows, and texts that name their item with another amount of a kind. Kinds of which the rows of
    the item, or the text, have several amounts say nothing."""
    named = defaultdict[str, list[_Row]](list)
    for row in rows:
        item = " ".join(WORD.findall(fold(row[1][0])))
        if sum(map(str.isalpha, item)) >= _FEWEST_LETTERS and not _DIGIT.search(item):
            named[item].append(row)
    items = defaultdict[str, list[str]](list)
    for item in named:
        items[item.partition(" ")[0]].append(item)
    for unit in units if items else ():
        words = WORD.findall(fold(unit.text)) if unit.kind is not UnitKind.ROW else []
        amounts = _amounts(unit.text) if words and _DIGIT.search(unit.text) else set[_Amount]()
        for item in chain(*(items[word][:_MOST_COMPARED] for word in items.keys() & {*words} if amounts)):
            same = named[item][:_MOST_COMPARED] if f" {item} " in f" {' '.join(words)} " else []
            of_rows = set[_Amount]().union(*(_amounts(" ".join(texts[1:])) for _, texts in same))
            if _differ(of_rows, amounts):
                yield same[0][0], unit


def _differ(amounts: Set[_Amount], others: Set[_Amount]) -> bool:
    (kinds, other_kinds) = (Counter(kind for kind, _ in each) for each in (amounts, others))
    return any(count == other_kinds[kind] == 1 for kind, count in kinds.items()) and amounts.isdisjoint(
        others
    )


def _amounts(text: str) -> set[_Amount]:
    """Return the amounts of money and measures in a text, without times; by what they count."""
    measures = {(unit, f"{size:g}") for unit, size in map(amount_of, quantities(fold(text)).measures)}
    money = {
        (sign or code, _CENTS.sub("", number or before))
        for sign, number, before, code in _MONEY.findall(text)
    }
    return money | {measure for measure in measures if measure[0] != SECONDS}
