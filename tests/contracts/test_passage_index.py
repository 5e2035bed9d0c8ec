"""What every pair of PassageIndex and PassageSearch does."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from decimal import Decimal

import pytest

from assistant.domain.clock import Deadline, SystemClock
from assistant.domain.documents import (
    RRF_K,
    VECTOR_LEG_WEIGHT,
    DocumentHit,
    IndexedDocument,
    ItemFacts,
    KnownItem,
    KnownWords,
    PassageQuery,
    Retrieved,
    SearchFilters,
    SourceIds,
    Span,
    Unit,
    UnitKind,
)
from assistant.domain.errors import ConfigurationError, DeadlineExceededError, SearchUnavailableError
from assistant.domain.in_force import InForce
from tests.contracts import samples
from tests.contracts.conftest import OtherProcess
from tests.contracts.samples import EAST, NOON, NORTH, UP, between, card_of, indexed, passage, query
from tests.contracts.twins import DIMENSIONS, EMBEDDING_MODEL, Twin, found_ids, put, search


async def test_an_index_that_was_never_written_finds_nothing(twin: Twin) -> None:
    found = await search(twin, query())
    assert (found.passages, found.best_cosine) == ((), 0.0)
    assert (await twin.search.info()).passage_count == 0


async def test_a_passage_comes_back_whole(twin: Twin) -> None:
    written = passage("refill", heading="Claims > Exceptions", labels=("claims", "staff"))
    await put(twin, (written, EAST))
    (ranked,) = (await search(twin, query(labels=["staff"]))).passages
    assert ranked.passage == written


async def test_both_legs_say_what_they_think(twin: Twin) -> None:
    await put(
        twin,
        (passage("words", text="Controlled substances are transferred once."), UP),
        (passage("meaning", text="A narcotic moves a single time."), EAST),
    )
    found = await search(twin, query("transferred substances", between(EAST, UP, share=0.2)))
    ranked = {one.passage.document_id: one for one in found.passages}
    assert (ranked["words"].lexical_rank, ranked["words"].vector_rank) == (1, 2)
    assert (ranked["meaning"].lexical_rank, ranked["meaning"].vector_rank) == (None, 1)
    assert ranked["meaning"].lexical_score is None
    assert (ranked["words"].lexical_score or 0.0) > 0.0
    assert ranked["meaning"].cosine == pytest.approx(0.970143, abs=1e-5)
    assert ranked["words"].cosine == pytest.approx(0.242536, abs=1e-5)
    assert ranked["words"].fused_score == pytest.approx(1 / (RRF_K + 1) + VECTOR_LEG_WEIGHT / (RRF_K + 2))
    assert [one.rank for one in found.passages] == [1, 2]


async def test_the_best_cosine_is_of_the_whole_vector_leg(twin: Twin) -> None:
    await put(
        twin,
        (passage("words", text="Refill refill refill."), between(EAST, UP, share=0.5)),
        (passage("other", text="Refill, then wait."), between(EAST, UP, share=0.45)),
        (passage("near", text="Nothing of it."), EAST),
    )
    found = await search(twin, query("refill", size=1))
    assert found.passages[0].passage.document_id != "near"
    assert found.best_cosine == pytest.approx(1.0)


@pytest.mark.parametrize("asked", ["REFILLING", "refills?", "réfill", "when is a refill done"])
async def test_words_match_by_stem_case_and_accent(twin: Twin, asked: str) -> None:
    await put(twin, (passage("refill", text="Refilled too soon."), NORTH))
    (ranked,) = (await search(twin, query(asked))).passages
    assert ranked.lexical_rank == 1


@pytest.mark.parametrize("asked", ["What is in 4.2.1?", "qx 1417", "QX1417 (please)", "the j3490"])
async def test_a_code_is_one_term_beside_its_parts(twin: Twin, asked: str) -> None:
    parts = "Of 4, 2, 1: 4, 2 and 1; qx for 1417, j of 3490."
    others = [(passage(f"parts{number}", text=parts), NORTH) for number in range(3)]
    await put(
        twin, *others, (passage("code", text="Form 4.2.1, qx_1417, J-3490 and a lot of more words."), NORTH)
    )
    found = await search(twin, query(asked))
    assert [one.passage.document_id for one in found.passages if one.lexical_rank == 1] == ["code"]
    scores = {one.document_id: one.text_score or 0.0 for one in found.documents}
    assert max(scores, key=scores.__getitem__) == "code"


@pytest.mark.parametrize(
    "asked",
    [
        'text:refill AND (NOT "soon"',
        "refill^99 OR *",
        "+refill -soon",
        "refill~2 [a TO z]",
        "\\refill\\",
        "{{refill}}",
    ],
)
async def test_a_question_is_words_never_a_query(twin: Twin, asked: str) -> None:
    await put(twin, (passage("refill", text="Refill soon."), NORTH), (passage("other", text="Other."), NORTH))
    found = await search(twin, query(asked))
    assert [one.passage.document_id for one in found.passages if one.lexical_rank] == ["refill"]


@pytest.mark.parametrize("asked", ["", "???", "\x00", "日本語"])
async def test_a_question_without_known_words_is_answered_by_the_vector_leg(twin: Twin, asked: str) -> None:
    await put(twin, (passage("refill"), EAST))
    (ranked,) = (await search(twin, query(asked))).passages
    assert (ranked.lexical_rank, ranked.vector_rank) == (None, 1)


OF_WIKI = SourceIds("wiki:", ("shop:",))
OF_NO_NAMESPACE = SourceIds("", ("wiki:", "shop:"))
SHOPS = [f"{name}{number}" for name in ("", "wiki:", "shop:") for number in range(3)]


@pytest.mark.parametrize(
    ("ids", "found"),
    [(OF_WIKI, ["wiki:0", "wiki:1", "wiki:2"]), (OF_NO_NAMESPACE, ["0", "1", "2"]), (None, sorted(SHOPS))],
)
async def test_a_query_of_one_source_finds_its_documents_only(
    twin: Twin, ids: SourceIds | None, found: list[str]
) -> None:
    await put(twin, *((passage(name, title=f"Refill {name}"), EAST) for name in SHOPS))
    result = await search(twin, query("refill", ids=ids, leg_size=20, size=20))
    assert sorted(one.passage.document_id for one in result.passages) == found
    assert [hit.document_id for hit in result.hits] == found
    assert [hit.document_id for hit in result.documents] == found


async def test_a_source_of_one_document_is_found_beside_a_large_one(twin: Twin) -> None:
    await put(
        twin, (passage("wiki:1", text="Wait."), NORTH), *((passage(f"shop:{n}"), EAST) for n in range(30))
    )
    found = await search(twin, query("refill", ids=OF_WIKI, leg_size=5))
    assert [hit.document_id for hit in found.documents] == ["wiki:1"]


async def test_equal_passages_come_in_order_of_their_ids(twin: Twin) -> None:
    for name in ("m", "c", "x", "a"):
        await put(twin, (passage(name), EAST))
    assert await found_ids(twin, query()) == ["a", "c", "m", "x"]
    assert await found_ids(twin, query(leg_size=2)) == ["a", "c"]


async def test_a_document_replaced_often_takes_no_other_s_place(twin: Twin) -> None:
    await put(twin, (passage("other", text="Refill later, or not at all."), NORTH))
    for _ in range(9):
        await put(twin, (passage("changing", text="Refill refill."), NORTH))
    found = await search(twin, query("refill", leg_size=2))
    lexical = {one.passage.document_id: one.lexical_rank for one in found.passages}
    assert lexical == {"changing": 1, "other": 2}


async def test_a_document_without_passages_is_in_no_leg(twin: Twin) -> None:
    await put(twin, (passage("refill"), EAST))
    nothing = IndexedDocument(card=card_of(passage("refill")), title_vectors=[EAST], passages=())
    await twin.index.replace_documents([nothing])
    found = await search(twin, query("procedure"))
    assert (found.passages, found.hits, found.documents) == ((), (), ())
    assert (await twin.index.info()).document_count == 0


async def test_a_deleted_document_is_not_found(twin: Twin) -> None:
    await put(twin, (passage("refill"), EAST), (passage("other"), EAST))
    await twin.index.delete_documents(["refill", "nothing"])
    assert await found_ids(twin, query()) == ["other"]


async def test_both_sides_tell_what_the_index_was_built_with(twin: Twin) -> None:
    await put(twin, (passage("refill", 0), EAST), (passage("refill", 1), EAST), (passage("other"), EAST))
    written, read = await twin.index.info(), await twin.search.info()
    assert written == read
    assert (read.embedding_model, read.dimensions) == (EMBEDDING_MODEL, DIMENSIONS)
    assert (read.passage_count, read.document_count) == (3, 2)
    assert read.updated_at is not None
    assert (await search(twin, query())).index_version == read.index_version


async def test_another_process_sees_a_write(twin: Twin, elsewhere: OtherProcess) -> None:
    await put(twin, (passage("refill"), EAST))
    assert await elsewhere("search_here") == ["refill#0"]


async def test_another_process_s_write_is_found_by_the_next_search(
    twin: Twin, elsewhere: OtherProcess
) -> None:
    assert await found_ids(twin, query()) == []
    await elsewhere("index_document")
    (ranked,) = (await search(twin, query("written by another process"))).passages
    assert (ranked.passage.document_id, ranked.lexical_rank, ranked.vector_rank) == ("elsewhere", 1, 1)


async def test_passages_of_another_tenant_are_not_found(twin: Twin, stranger: Twin) -> None:
    await put(twin, (passage("refill"), EAST))
    await put(stranger, (passage("secret"), EAST))
    assert await found_ids(stranger, query()) == ["secret"]
    assert await found_ids(twin, query()) == ["refill"]


async def test_searches_at_once_find_what_they_find_alone(twin: Twin) -> None:
    words = ["zolpidem", "warfarin", "insulin", "lisinopril", "metformin"]
    for share, word in enumerate(words):
        await put(twin, (passage(word, text=f"{word} {word[:3]}"), between(EAST, UP, share=share / 5)))
    asked = [query(word, between(UP, NORTH, share=share / 5)) for share, word in enumerate(words)]
    alone = [await search(twin, one) for one in asked]
    assert await asyncio.gather(*(search(twin, one) for one in asked)) == alone
    assert len({found.passages for found in alone}) == len(asked)


async def test_a_question_of_another_model_s_dimensions_is_refused(twin: Twin) -> None:
    await put(twin, (passage("refill"), EAST))
    with pytest.raises(SearchUnavailableError):
        await search(twin, query(vector=(1.0, 0.0)))


async def test_a_search_after_its_deadline_is_refused(twin: Twin) -> None:
    with pytest.raises(DeadlineExceededError):
        await twin.search.search(query(), deadline=Deadline.after(0.0, clock=SystemClock()))


UNITS = (
    Unit(0, UnitKind.SENTENCE, "Wait until day 24.", Span(3, 21), "", terms=("wait", "day", "24")),
    Unit(1, UnitKind.STEP, "1. Ask.", Span(23, 30), "Claims > Steps", parent=0, terms=("1",)),
    Unit(2, UnitKind.ROW, "Plan: A; Days: 65 and more", Span(31, 57), "Claims", terms=("plan", "65")),
)


async def documents_found(twin: Twin, asked: PassageQuery) -> dict[str, DocumentHit]:
    return {hit.document_id: hit for hit in (await search(twin, asked)).documents}


async def test_hits_are_all_passages_of_both_legs_with_their_raw_scores(twin: Twin) -> None:
    await put(
        twin,
        (passage("words", text="Zolpidem."), NORTH),
        (passage("near", text="Other."), EAST),
        (passage("far", text="Other."), UP),
    )
    found = await search(twin, query("zolpidem", leg_size=1, size=1))
    assert [(hit.passage_id, hit.document_id, hit.cosine) for hit in found.hits] == [
        ("near#0", "near", pytest.approx(1.0)),
        ("words#0", "words", pytest.approx(0.0)),
    ]
    assert found.hits[0].lexical_score is None
    assert found.hits[1].lexical_score == next(
        one.lexical_score
        for one in (await search(twin, query("zolpidem"))).passages
        if one.passage.document_id == "words"
    )


async def test_a_title_and_a_question_are_found_by_their_words(twin: Twin) -> None:
    await twin.index.replace_documents(
        [
            indexed((passage("by-title", title="Zolpidem limits", text="None."), NORTH)),
            indexed((passage("by-question", text="None."), NORTH), questions={"Is zolpidem covered?": UP}),
            indexed((passage("by-text", text="Zolpidem."), NORTH)),
        ]
    )
    found = await documents_found(twin, query("zolpidem"))
    assert {name for name, hit in found.items() if hit.title_score} == {"by-title", "by-question"}
    assert {name for name, hit in found.items() if hit.text_score} == {"by-text"}


async def test_documents_of_the_title_leg_tell_their_nearest_title_or_question(twin: Twin) -> None:
    await twin.index.replace_documents(
        [
            indexed((passage("title"), NORTH), title_vector=between(EAST, UP, share=0.2)),
            indexed((passage("asked"), NORTH), title_vector=UP, questions={"Why?": EAST, "How?": NORTH}),
            indexed((passage("words", text="Zolpidem."), NORTH), title_vector=NORTH),
        ]
    )
    found = await documents_found(twin, query("zolpidem", EAST, leg_size=1))
    assert found["asked"].title_cosine == pytest.approx(1.0)
    assert found["words"].title_cosine is None
    assert found["words"].title_score is None
    found = await documents_found(twin, query("zolpidem", EAST))
    assert found["title"].title_cosine == pytest.approx(0.970143, abs=1e-5)
    assert found["words"].title_cosine == pytest.approx(0.0)


async def test_the_whole_text_is_one_text(twin: Twin) -> None:
    """Words that no passage holds together are found together."""
    await put(
        twin,
        (passage("both", 0, text="Zolpidem now."), NORTH),
        (passage("both", 1, heading="Warfarin", text="Or then."), NORTH),
        (passage("one", 0, text="Zolpidem now."), NORTH),
        (passage("one", 1, text="Zolpidem then."), NORTH),
    )
    found = await documents_found(twin, query("zolpidem warfarin"))
    assert (found["both"].text_score or 0.0) > (found["one"].text_score or 0.0) > 0.0


async def test_questions_change_no_passage_s_score(twin: Twin, stranger: Twin) -> None:
    asked = {f"Question {number} of many others?": NORTH for number in range(9)}
    entry = (passage("refill", text="Zolpidem today."), NORTH)
    await twin.index.replace_documents([indexed(entry)])
    await stranger.index.replace_documents([indexed(entry, questions=asked)])
    alone, beside = [(await search(one, query("zolpidem"))).hits for one in (twin, stranger)]
    assert beside == alone


async def test_read_documents_gives_all_passages_in_order_with_units_and_card(twin: Twin) -> None:
    written = indexed(
        *((passage("refill", ordinal, text=f"Part {ordinal}."), EAST) for ordinal in range(11)),
        (passage("refill", 11, text="Wait until day 24.\n\n1. Ask.\nPlan: A;", units=UNITS), EAST),
        questions={"May it be early?": UP},
        words=("ask", "wait"),
        abbreviations=(("pa", "prior authorization"),),
        item=ItemFacts(item_id="k2", price=Decimal("49.90"), properties={"Power": "2 kW"}, rating=4.5),
        banner="DRAFT",
        in_force=InForce(until=date(2026, 12, 31), never="draft: true", words=(1, 2)),
    )
    await twin.index.replace_documents([written, indexed((passage("other"), NORTH))])
    read = await twin.search.read_documents(
        ["other", "nothing", "refill"], labels=frozenset(), deadline=samples.soon()
    )
    assert list(read) == ["other", "refill"]
    assert read["refill"].card == written.card
    assert read["other"].card.item is None
    assert read["refill"].passages == tuple(entry for entry, _ in written.passages)


async def test_read_documents_leaves_out_what_the_labels_hide(twin: Twin) -> None:
    await put(twin, (passage("open"), EAST), (passage("hidden", labels=("claims", "staff")), EAST))
    for labels, expected in (((), {"open"}), (("staff",), {"open", "hidden"}), (("*",), {"open"})):
        read = await twin.search.read_documents(
            ["open", "hidden"], labels=frozenset(labels), deadline=samples.soon()
        )
        assert set(read) == expected, labels


async def test_known_abbreviations_leave_labelled_documents_out(twin: Twin) -> None:
    pa = ("pa", "prior authorization")
    await twin.index.replace_documents(
        [
            indexed((passage("a"), EAST), abbreviations=(pa, ("dc", "drug card"))),
            indexed((passage("b"), EAST), abbreviations=(pa, ("dc", "discontinued"))),
            indexed(
                (passage("c", labels=("staff",)), EAST),
                abbreviations=(("ss", "secret stock"), ("pa", "private account")),
            ),
        ]
    )
    known = await twin.search.known_words()
    assert known.abbreviations == {"pa": "prior authorization"}


async def test_items_of_a_source_are_known_by_their_facts(twin: Twin) -> None:
    lamp = ItemFacts(item_id="L-1", category="Lamps", price=Decimal("19.90"), properties={"Power": "9 W"})
    of_review = ItemFacts(item_id="L-1", rating=4.0)
    await twin.index.replace_documents(
        [
            indexed((passage("catalogue:lamp", title="Desk lamp"), EAST), item=lamp),
            indexed((passage("catalogue:page", title="A page"), EAST)),
            indexed((passage("catalogue:review", title="A review"), EAST), item=of_review),
            indexed((passage("catalogue:hidden", labels=("staff",)), EAST), item=lamp),
            indexed((passage("store:lamp", title="Another"), EAST), item=lamp),
        ]
    )
    known = await twin.search.known_words(items_of=[SourceIds("catalogue:")])
    assert known.items == (KnownItem("catalogue:lamp", "Desk lamp", lamp),)
    assert (await twin.search.known_words()).items == ()


async def put_anew(twin: Twin) -> None:
    await twin.index.replace_documents([indexed((passage("refill", title="New", text="New."), UP))])


async def delete(twin: Twin) -> None:
    await twin.index.delete_documents(["refill"])


@pytest.mark.parametrize("remove", [put_anew, delete])
async def test_nothing_is_left_of_an_old_document_s_questions_card_and_words(
    twin: Twin, remove: Callable[[Twin], Awaitable[None]]
) -> None:
    await twin.index.replace_documents(
        [
            indexed(
                (passage("refill", 0, title="Zolpidem", text="Zolpidem."), EAST),
                (passage("refill", 1, title="Zolpidem", text="Zolpidem again."), EAST),
                questions={"Zolpidem when?": EAST, "Zolpidem how?": EAST},
                words=("zolpidem",),
                abbreviations=(("zo", "zolpidem orders"),),
            ),
            indexed((passage("other", title="Other", text="Other."), NORTH), words=("other",)),
        ]
    )
    await remove(twin)
    passages = (await search(twin, query("zolpidem", EAST))).passages
    assert [one for one in passages if one.lexical_rank or one.passage.title == "Zolpidem"] == []
    found = await documents_found(twin, query("zolpidem", EAST))
    assert [hit for hit in found.values() if hit.title_score or hit.text_score] == []
    assert [hit.title_cosine for hit in found.values() if hit.title_cosine] == []
    assert await twin.search.known_words() == KnownWords(abbreviations={})
    read = await twin.search.read_documents(["refill"], labels=frozenset(), deadline=samples.soon())
    assert [len(document.passages) for document in read.values()] == ([1] if remove is put_anew else [])


async def test_a_title_s_vector_of_other_dimensions_is_refused(twin: Twin) -> None:
    odd = indexed((passage("refill"), EAST), title_vector=(1.0, 0.0))
    with pytest.raises((SearchUnavailableError, ConfigurationError)):
        await twin.index.replace_documents([odd])
    assert (await search(twin, query())).documents == ()


def assert_found(found: Retrieved, expected: set[str]) -> None:
    """Assert that the hits and each leg of passages and documents hold just what is expected."""
    for rank in ("lexical_rank", "vector_rank"):
        leg = {one.passage.document_id for one in found.passages if getattr(one, rank) is not None}
        assert leg == expected, rank
    assert {hit.document_id for hit in found.hits} == expected
    assert {hit.document_id for hit in found.documents} == expected
    for score in ("title_cosine", "title_score", "text_score"):
        leg = {hit.document_id for hit in found.documents if getattr(hit, score) is not None}
        assert leg == expected, score


FILTERED = (
    passage("procedure", source="procedures", type="claims"),
    passage("wiki", source="wiki", type="claims"),
    passage("help", source="wiki", type="returns", updated_at=NOON + timedelta(days=1)),
)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        (SearchFilters(), {"procedure", "wiki", "help"}),
        (SearchFilters(source=("wiki",)), {"wiki", "help"}),
        (SearchFilters(source=("wiki", "procedures")), {"procedure", "wiki", "help"}),
        (SearchFilters(type=("claims",)), {"procedure", "wiki"}),
        (SearchFilters(source=("wiki",), type=("claims",)), {"wiki"}),
        (SearchFilters(document_id=("help", "procedure")), {"help", "procedure"}),
        (SearchFilters(source=("nothing",)), set[str]()),
        (SearchFilters(source=("Wiki",)), set[str]()),
        (SearchFilters(updated_after=NOON), {"help"}),
        (SearchFilters(updated_after=NOON - timedelta(microseconds=1)), {"procedure", "wiki", "help"}),
        (SearchFilters(updated_after=NOON + timedelta(days=1)), set[str]()),
    ],
)
async def test_both_legs_obey_the_filters(twin: Twin, filters: SearchFilters, expected: set[str]) -> None:
    await put(twin, *((entry, EAST) for entry in FILTERED))
    found = await search(twin, query("procedure: wait until day", filters=filters))
    assert_found(found, expected)


async def test_filters_come_before_the_best_are_chosen(twin: Twin) -> None:
    crowd = [(passage(f"crowd{number}", text="refill refill refill"), EAST) for number in range(30)]
    await put(
        twin, *crowd, (passage("wanted", text="refill later", source="wiki"), between(EAST, UP, share=0.5))
    )
    found = await search(twin, query("refill", filters=SearchFilters(source=("wiki",)), leg_size=3))
    assert [(one.passage.document_id, one.lexical_rank, one.vector_rank) for one in found.passages] == [
        ("wanted", 1, 1)
    ]
    assert found.best_cosine == pytest.approx(0.707107, abs=1e-5)
    without = frozenset(entry.document_id for entry, _ in crowd)
    left_out = dataclasses.replace(query("refill", leg_size=3), without=without)
    assert await found_ids(twin, left_out) == ["wanted"]


LABELLED = (
    passage("open"),
    passage("claims", labels=("claims",)),
    passage("both", labels=("claims", "controlled")),
    passage("odd", labels=("*",)),
)


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ((), {"open"}),
        (("claims",), {"open", "claims", "both"}),
        (("controlled",), {"open", "both"}),
        (("nothing", "claims"), {"open", "claims", "both"}),
        (("*",), {"open", "odd"}),
        (("",), {"open"}),
        (("claims,controlled",), {"open"}),
    ],
)
async def test_a_labelled_passage_is_seen_only_with_one_of_its_labels(
    twin: Twin, labels: Sequence[str], expected: set[str]
) -> None:
    await put(twin, *((entry, EAST) for entry in LABELLED))
    found = await search(twin, query("procedure: wait until day", labels=labels))
    assert_found(found, expected)


async def test_a_filter_does_not_widen_what_labels_allow(twin: Twin) -> None:
    await put(twin, *((entry, EAST) for entry in LABELLED))
    assert await found_ids(twin, query(filters=SearchFilters(document_id=("claims",)))) == []


async def test_a_hidden_passage_does_not_raise_the_best_cosine(twin: Twin) -> None:
    await put(twin, (passage("hidden", labels=("claims",)), EAST), (passage("open"), NORTH))
    assert (await search(twin, query())).best_cosine == 0.0
