"""Training sets: who stands behind a text, what is left out, and which split an example is in."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import date, timedelta
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from assistant.answer.prompt import load_prompt
from assistant.documents.readable import ReadableDocuments
from assistant.domain.answers import Sent, Verdict, VerdictLabel
from assistant.domain.desk import ItemState
from assistant.options.desk.approved import ApprovedAnswer
from assistant.options.desk.opened import LearningStores
from assistant.options.models_lab.opened import training_sets
from assistant.options.models_lab.training_sets import (
    CARD,
    MANIFEST,
    SPLITS,
    Alike,
    Example,
    Origin,
    Sets,
    families,
    preference_row,
    supervised_row,
)
from assistant.options.reply.prompt import PACKAGE
from assistant.options.reply.prompt import PROMPT as REPLY_PROMPT
from assistant.tenant.tenant import AnswersSection
from tests.contracts.samples import NOON
from tests.options.desk.moving import QUOTE, answered, moving, tenant
from tests.options.models_lab.signals import BETTER, DRAFT, Signals, unique_id, write


def every(sets: Sets) -> list[Example]:
    return [one for split in SPLITS for one in sets.examples[split]]


def approved_answer(answer_id: str, state: ItemState = ItemState.LIVE) -> ApprovedAnswer:
    return ApprovedAnswer(
        questions=("The insulin parcel arrived warm, what now?",),
        text="Approved: we replace it.",
        owner="desk",
        expires_on=date(2027, 1, 1),
        from_answer=answer_id,
        state=state,
        proposed_by="ann",
    )


async def test_a_better_text_is_chosen_over_the_draft_that_it_replaces() -> None:
    sets = await Signals().bad("a", words={"better_text": BETTER}).sets()
    (example,) = every(sets)
    assert (example.origin, example.chosen, example.rejected) == (Origin.BETTER_TEXT, BETTER, DRAFT)
    row = preference_row(example)
    assert row is not None
    assert row["chosen"] == [{"role": "assistant", "content": BETTER}]
    assert row["rejected"] == [{"role": "assistant", "content": DRAFT}]


async def test_an_approved_text_is_the_strongest() -> None:
    signals = Signals().bad("a", words={"better_text": BETTER}).sent("a", BETTER)
    (example,) = every(await signals.sets([approved_answer("a")]))
    assert (example.origin, example.chosen) == (Origin.APPROVED, "Approved: we replace it.")
    assert len(example.events) == 2


@pytest.mark.parametrize("state", [ItemState.PROPOSED, ItemState.SUSPENDED, ItemState.WITHDRAWN])
async def test_a_text_that_is_not_live_is_not_approved(state: ItemState) -> None:
    sets = await Signals().good("a").sets([approved_answer("a", state)])
    assert [one.origin for one in every(sets)] == [Origin.MARKED_GOOD]


async def test_an_answer_that_was_sent_as_it_is_is_no_preference() -> None:
    (example,) = every(await Signals().sent("a", DRAFT).sets())
    assert (example.origin, preference_row(example)) == (Origin.SENT, None)
    assert supervised_row(example)["completion"] == [{"role": "assistant", "content": DRAFT}]


EXT = {"better_text": "Call ext. 4990."}


@pytest.mark.parametrize(
    ("signals", "why"),
    [
        (Signals().bad("a"), "nobody stands behind a text"),
        (Signals().bad("a").sent("a", DRAFT), "nobody stands behind a text"),
        (Signals().good("a").bad("a"), "nobody stands behind a text"),
        (Signals().sent("a", BETTER, unsupported_sent=True), "nobody stands behind a text"),
        (Signals().good("gone"), "its document or record is gone"),
        (Signals().bad("silent", words=EXT), "its sources do not hold what it says"),
        (Signals().bad("a", words=EXT, is_quoted=False), "its sources do not hold what it says"),
    ],
)
async def test_an_answer_that_nobody_or_nothing_stands_behind_teaches_nothing(
    signals: Signals, why: str
) -> None:
    sets = await signals.sets()
    assert (every(sets), sets.left_out[why]) == ([], 1)


async def test_a_changed_mind_and_a_number_that_the_sources_hold_count() -> None:
    for signals in (Signals().bad("a").good("a"), Signals().bad("a", words=EXT)):
        assert len(every(await signals.sets())) == 1


async def test_an_erased_text_is_left_out() -> None:
    signals = Signals().good("a").good("b", "Where do I send the sharps box?", document="sharps")
    del signals.texts[signals.events[0].text_id or ""]
    sets = await signals.sets()
    assert [one.answer_id for one in every(sets)] == ["b"]
    assert sets.left_out["its text is erased or was not kept"] == 1


async def test_patients_data_that_is_found_now_is_replaced_and_counted() -> None:
    sets = await Signals().good("a", "Mrs. Ivanova asks about her warm parcel").sets()
    (example,) = every(sets)
    assert (example.question, sets.replaced["NAME"]) == ("<NAME> asks about her warm parcel", 1)


async def test_near_duplicates_are_one_example_and_the_strongest_stays() -> None:
    signals = Signals().good("a").sent("b", DRAFT).good("c")
    sets = await signals.sets()
    assert [(one.answer_id, one.origin) for one in every(sets)] == [("b", Origin.SENT)]
    assert sets.left_out["near-duplicates"] == 2


async def test_marks_that_disagree_on_the_document_are_left_out() -> None:
    signals = Signals().good("a", document="cold-chain").good("b", document="returns")
    sets = await signals.sets()
    assert (every(sets), sets.left_out["marks disagree"]) == ([], 2)
    agreed = Signals().good("a").good("b").good("c", document="returns")
    (example,) = every(await agreed.sets())
    assert (example.document_id, round(example.agreement, 2)) == ("cold-chain", 0.67)


def many(count: int = 120) -> Signals:
    signals = Signals()
    for number in range(count):
        words = " ".join(unique_id("word", number, at)[:8] for at in range(8))
        chosen = " ".join(unique_id("text", number, at)[:8] for at in range(12))
        signals.sent(f"a{number}", chosen, f"{words}?", document=f"document-{number}")
    return signals


async def test_no_document_is_trained_and_tested_and_validation_is_newer_than_training() -> None:
    sets = await many().sets()
    of = {split: {one.document_id for one in sets.examples[split]} for split in SPLITS}
    assert all(of[split] for split in SPLITS)
    assert not of["test"] & (of["train"] | of["validation"])
    newest = max(one.at for one in sets.examples["train"])
    assert newest < min(one.at for one in sets.examples["validation"])


async def test_a_question_near_a_tested_one_does_not_train() -> None:
    signals = many()
    (tested, *_) = (await signals.sets()).examples["test"]
    trained = (await signals.sets()).examples["train"][0].document_id
    signals.sent("near", BETTER, tested.question, document=trained)
    same = approved_answer(tested.answer_id).model_copy(update={"text": tested.chosen})
    sets = await signals.sets([approved_answer("near"), same])
    assert "near" not in {one.answer_id for split in ("train", "validation") for one in sets.examples[split]}
    assert sets.left_out["its question is near one of the test split"] == 1


# Files


def test_a_set_is_a_folder_by_its_hash_with_card_and_manifest(tmp_path: Path) -> None:
    folder = write(asyncio.run(many(30).sets()), tmp_path)
    manifest = orjson.loads((folder / MANIFEST).read_bytes())
    for name, sha256 in manifest["files"].items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == sha256
    rows = [orjson.loads(line) for line in (folder / "sft.train.jsonl").read_bytes().splitlines()]
    assert all(row["provenance"]["events"] for row in rows)
    card = (folder / CARD).read_text()
    assert f"| train | {len(rows)} |" in card
    assert "to improve the answers of all agents.\n" in card
    assert {path.parent for path in tmp_path.glob("*/card.md")} == {folder}


async def test_the_same_sets_are_the_same_folder_and_are_never_changed(tmp_path: Path) -> None:
    sets = await many(30).sets()
    folder = write(sets, tmp_path)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert write(sets, tmp_path) == folder
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert write(await many(31).sets(), tmp_path) != folder


async def test_a_marked_answer_and_its_sent_reply_are_examples_of_their_own_prompts(tmp_path: Path) -> None:
    draft, sent = "Take 5 mg once a day, and no alcohol.", "Please take 5 mg twice a day, and no alcohol."
    async with moving(tmp_path) as scene:
        records = scene.stores.records
        await records.put_answer(answered())
        await records.put_answer(answered("r1").model_copy(update={"reply_to": "a1", "text": draft}))
        await records.append_verdict("a1", Verdict(verdict_id="v1", label=VerdictLabel.GOOD), agent="ana")
        await records.append_sent("a1", Sent(send_id="s1", text=sent, reply_id="r1"), agent="ana")
        await scene.move()
        stores = LearningStores(
            tenant(),
            feedback=scene.feedback,
            erasure_keys=scene.stores.erasure_keys,
            desk=scene.stores.desk,
            records=records,
            texts=cast("ReadableDocuments", scene.texts),
        )
        export = await training_sets(stores, NOON - timedelta(days=1), NOON + timedelta(days=1))

    def rows(kind: str) -> dict[str, Any]:
        lines = (line for split in SPLITS for line in export.content[f"{kind}.{split}.jsonl"].splitlines())
        return {row["provenance"]["task"]: row for row in map(orjson.loads, lines)}

    supervised, preferences = rows("sft"), rows("preference")
    said = {task: row["completion"][0]["content"] for task, row in supervised.items()}
    assert said == {"answer": QUOTE, "reply": sent}
    (system, user), (_, asked) = supervised["reply"]["prompt"], supervised["answer"]["prompt"]
    assert system["content"] == load_prompt(REPLY_PROMPT, PACKAGE).system.replace("{{language}}", "en")
    assert QUOTE in user["content"]
    assert AnswersSection().tone in user["content"]
    assert "[1.1]" in asked["content"]
    assert preferences.keys() == {"reply"}
    assert preferences["reply"]["rejected"][0]["content"] == draft


FIRST = "a warm insulin parcel must be reported within two working days"
NEAR = FIRST + " please"
FAR = "an early refill is payable once a year and the claims desk decides"


def test_texts_with_most_word_triples_in_common_are_one_family() -> None:
    assert families([FIRST, FAR, NEAR.upper()]) == [0, 1, 0]


def test_a_text_that_is_alike_to_two_joins_their_families() -> None:
    longer = f"{NEAR} do"
    assert families([FIRST, f"{longer} it"]) == [0, 1]
    assert families([FIRST, f"{longer} it", NEAR]) == [0, 0, 0]


def test_sets_are_alike_from_the_asked_share_on() -> None:
    known = Alike(0.5)
    for parts in ("ab", "abcd", "xy"):
        known.add(frozenset(parts))
    assert known.of(frozenset("ab")) == [0, 1]
    assert known.of(frozenset("abc")) == [0, 1]
    assert known.of(frozenset("q")) == []
