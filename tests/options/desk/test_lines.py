"""Which lines an answer rests on, whether they stand, and which line took the place of one that does not."""

from __future__ import annotations

from assistant.documents.parsing import parse_document
from assistant.domain.answers import CitedUnit, QuotedUnit, Sentence, Support
from assistant.domain.documents import Document, MediaType, ParsedDocument
from assistant.options.desk.lines import ContentLines, KeptContents, units_of
from assistant.options.desk.recalls import GONE
from tests.contracts import samples

TABLE = "| Plan | Days |\n| --- | --- |\n| Gold | {days} |\n| Silver | 30 |\n"


def parsed(text: str, media_type: MediaType = "text/plain") -> ParsedDocument:
    return parse_document(Document(document_id="d", title="D", content=text, media_type=media_type))


def kept(**contents: ParsedDocument) -> KeptContents:
    async def read(_document_id: str, content_hash: str) -> ParsedDocument | None:
        return contents.get(content_hash)

    return KeptContents(read)


def unit(content: ParsedDocument, words: str, content_hash: str = "old") -> QuotedUnit:
    start = content.text.index(words)
    return QuotedUnit(document_id="d", content_hash=content_hash, span=(start, start + len(words)))


async def fallen(before: str, now: str, cited: str, media_type: MediaType = "text/plain") -> list[str]:
    """Return the lines that fell."""
    old, new = parsed(before, media_type), parsed(now, media_type)
    found = await kept(old=old, new=new).fallen([unit(old, cited)], "new")
    return [old.text[slice(*each.span)] for each in found]


def test_a_written_answer_rests_on_the_units_that_its_shown_sentences_cite() -> None:
    cited = (CitedUnit(n=1, start=0, end=9), CitedUnit(n=7, start=0, end=9))
    shown = Sentence(index=0, start=0, end=5, citations=(1,), support=Support.SUPPORTED, cited=cited)
    other = CitedUnit(n=2, start=3, end=8)
    withheld = shown.model_copy(update={"detail": "withheld", "cited": (other,)})
    update = {
        "sentences": (shown, shown, withheld),
        "passages": (samples.use("wait"), samples.use("pay", n=2)),
    }
    units = units_of(samples.answer().model_copy(update=update))
    assert units == {"wait": [QuotedUnit(document_id="wait", content_hash="hash", span=(0, 9))]}


async def test_a_longer_line_is_another_one() -> None:
    before, now = "- The label is free\n- Print it", "- The label is free for members\n- Print it"
    assert await fallen(before, now, "The label is free", "text/markdown") == ["The label is free"]


async def test_a_row_of_a_table_is_a_line() -> None:
    before, now = TABLE.format(days=10), TABLE.format(days=20)
    old = parsed(before, "text/markdown")
    gold, silver = (row.text for row in old.units)
    assert await fallen(before, now, gold, "text/markdown") == [gold]
    assert await fallen(before, now, silver, "text/markdown") == []


async def test_nothing_stands_in_what_is_gone_or_of_what_is_not_stored() -> None:
    old = parsed("Two days.")
    cited = unit(old, "Two days.")
    assert await kept(old=old).fallen([cited], GONE) == (cited,)
    assert await kept(new=old).fallen([cited], "new") == (cited,)
    assert await kept().fallen([cited], "old") == ()


async def test_the_last_four_contents_are_kept() -> None:
    texts = {f"h{number}": parsed(f"Text {number}.") for number in range(6)}
    reads: list[str] = []

    async def read(_document_id: str, content_hash: str) -> ParsedDocument | None:
        reads.append(content_hash)
        return texts[content_hash]

    contents = KeptContents(read)
    for content_hash in ("h0", "h1", "h0", "h2", "h0", "h3", "h4", "h0", "h1"):
        assert await contents.get("d", content_hash) is not None
    assert reads == ["h0", "h1", "h2", "h3", "h4", "h1"]


def test_the_line_in_place_of_one_is_the_most_alike_new_one_between_its_neighbours() -> None:
    old = ContentLines(parsed("Rule A holds.\n\nThe wait is two days.\n\nRule B holds."))
    start = old.parsed.text.index("The wait")
    new = (
        "Rule A holds.\n\nBring a card.\n\nThe wait is four days.\n\nRule B holds.\n\nThe wait is two hours."
    )
    assert ContentLines(parsed(new)).in_place_of(start, old) == "The wait is four days."
    assert ContentLines(parsed("Rule A holds.\n\nRule B holds.")).in_place_of(start, old) is None
    assert ContentLines(parsed("Zzz.")).in_place_of(start, old) is None
