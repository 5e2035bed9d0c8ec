"""Pairs for tuning the embedding model: what they hold, what is held out, and the folder that keeps them."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest

from assistant.domain.desk import ApprovedAnswer, BoundSource, ItemState
from assistant.domain.documents import StoredDocument
from assistant.domain.errors import InvalidRequestError
from assistant.evaluation.questions import EvaluationQuestion, split_of
from assistant.text.language import language
from assistant.tuning.training_sets import (
    FEWEST_PAIRS,
    HELD_OUT,
    HoldOut,
    Pair,
    PairKind,
    PairSets,
    build_pairs,
    export_of_pairs,
)
from tests.fakes.answering import document
from tests.unit.evaluation.results import question

WARM = "A warm insulin parcel must be reported within two working days."
FORM = "Send the completed return form to the desk at the main building."
PARCEL = f"{WARM} {FORM} The courier takes the box back on the next morning."


def documents(*more: StoredDocument) -> list[StoredDocument]:
    return [
        document("parcel", PARCEL, title="Warm insulin parcels", questions=("Who pays for a warm parcel?",)),
        document(
            "refill",
            "An early refill is payable once a year. The claims desk decides on every later one.",
            title="Early refills",
        ),
        *more,
    ]


def built(
    *more: StoredDocument,
    approved: dict[str, ApprovedAnswer] | None = None,
    protected: tuple[EvaluationQuestion, ...] = (),
    hold_out: HoldOut = "asked",
) -> PairSets:
    return build_pairs(
        documents(*more),
        approved=approved or {},
        protected=protected,
        language=language("en"),
        hold_out=hold_out,
    )


def pairs(sets: PairSets, kind: PairKind | None = None) -> list[Pair]:
    every = [one for split in ("train", "validation") for one in sets.pairs[split]]
    return [one for one in every if kind in (None, one.kind)]


def answer(**fields: object) -> ApprovedAnswer:
    base = {
        "questions": ("May the courier keep the cooling box?",),
        "text": "No. The box goes back.",
        "owner": "desk",
        "expires_on": date(2099, 1, 1),
        "state": ItemState.LIVE,
        "proposed_by": "ruth",
    }
    return ApprovedAnswer.model_validate({**base, **fields})


def test_a_title_belongs_to_its_passages_without_the_title() -> None:
    titles = [one for one in pairs(built(), "title") if one.document_id == "parcel"]
    assert {one.anchor for one in titles} == {"Warm insulin parcels"}
    assert all("Warm insulin parcels" not in text for one in titles for text in one.positives)
    assert WARM in titles[0].positives[0]


def test_a_question_of_a_document_belongs_to_any_of_its_passages_as_served() -> None:
    (asked,) = pairs(built(), "question")
    passages = tuple(one.embedding_input for one in documents()[0].passages)
    assert (asked.anchor, asked.positives) == ("Who pays for a warm parcel?", passages)
    assert asked.provenance["content_hash"] == "hash-of-parcel"


def test_a_sentence_belongs_to_its_passage_without_the_sentence() -> None:
    sentences = pairs(built(), "sentence")
    assert {WARM, FORM} <= {one.anchor for one in sentences}
    assert all(one.anchor not in text for one in sentences for text in one.positives)


def test_the_wordings_of_a_live_approved_answer_belong_to_its_text() -> None:
    live = answer(sources=(BoundSource(document_id="parcel", content_hash="h"),))
    (pair,) = pairs(built(approved={"item-1": live}), "approved")
    assert (pair.positives, pair.document_id) == ((live.text,), "parcel")
    assert pair.provenance["rests_on"] == ["item-1"]


@pytest.mark.parametrize("fields", [{"state": ItemState.SUSPENDED}, {"labels": ("hr",)}])
def test_an_approved_answer_that_not_every_agent_gets_makes_no_pair(fields: dict[str, object]) -> None:
    assert pairs(built(approved={"item-1": answer(**fields)}), "approved") == []


def test_a_document_that_an_evaluation_question_names_makes_no_pair() -> None:
    sets = built(protected=(question("q1", question="Which refill is free?", documents=("refill",)),))
    assert sets.held_out == {"refill"}
    assert {one.document_id for one in pairs(sets)} == {"parcel"}
    assert {one.document_id for one in sets.passages} == {"parcel"}


def test_an_approved_answer_from_a_held_out_document_makes_no_pair() -> None:
    bound = answer(sources=(BoundSource(document_id="refill", content_hash="h"),))
    protected = (question("q1", question="Which one?", documents=("refill",)),)
    sets = built(approved={"item-1": bound}, protected=protected)
    assert pairs(sets, "approved") == []
    assert sets.left_out["approved answers from held-out documents"] == 1


def test_a_paraphrase_of_an_evaluation_question_is_no_anchor() -> None:
    protected = question("q1", question="A warm parcel: who is it that pays?", documents=("elsewhere",))
    assert len(pairs(built(), "question")) == 1
    sets = built(protected=(protected,))
    assert pairs(sets, "question") == []
    assert sets.left_out["questions that read like what is held out"] == 1


def test_a_title_like_that_of_a_held_out_document_is_no_anchor() -> None:
    twin = document("refill-2", "Once a year the plan pays for it early.", title="The early refill")
    protected = question("q1", question="Is it free?", documents=("refill",))
    sets = built(twin, protected=(protected,))
    assert "refill-2" not in {one.document_id for one in pairs(sets, "title")}


def test_half_holds_out_the_half_by_which_evaluation_judges() -> None:
    more = [document(f"more-{number}", PARCEL, title=f"Parcel {number}") for number in range(8)]
    sets = built(*more, hold_out="half")
    named = {one.card.document_id for one in documents(*more)}
    assert sets.held_out == {name for name in named if split_of(name) == "held_out"}
    assert 0 < len(sets.held_out) < len(named)


def test_no_document_trains_and_validates() -> None:
    more = [
        document(f"more-{number}", PARCEL, title=f"Title of number {number * 7919}") for number in range(60)
    ]
    sets = built(*more)
    train, validation = ({one.document_id for one in sets.pairs[name]} for name in ("train", "validation"))
    assert train
    assert validation
    assert not train & validation


# Files


def many() -> PairSets:
    """Return pairs of enough documents for a set; their titles share no words."""
    words = [
        f"{first}{second}" for first in "bdfgklmnpr" for second in ("abor", "elit", "imon", "olud", "unal")
    ]
    more = [
        document(f"more-{number}", f"{word} opens daily. {PARCEL}", title=f"{word} parcels of {word}s")
        for number, word in enumerate(words)
    ]
    return built(*more)


def write(sets: PairSets, folder: Path) -> Path:
    exported = export_of_pairs(sets, tenant="pharmacy", index_version="index-1", questions_sha256="0" * 64)
    return exported.write(folder)


def test_a_set_is_a_folder_named_by_its_content_with_its_card_and_the_held_out(tmp_path: Path) -> None:
    sets = many()
    folder = write(sets, tmp_path)
    manifest = json.loads((folder / "manifest.json").read_text())
    rows = [json.loads(line) for line in (folder / "pairs.train.jsonl").read_text().splitlines()]
    assert manifest["counts"]["train"] == len(rows) == len(sets.pairs["train"])
    assert rows[0].keys() == {"anchor", "positives", "document_id", "kind", "provenance"}
    assert set((folder / HELD_OUT).read_text().split()) == sets.held_out
    assert folder.name in {f"pharmacy-{line[9:21]}" for line in (folder / "card.md").read_text().splitlines()}
    assert write(sets, tmp_path) == folder


def test_too_few_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match=f"{FEWEST_PAIRS} and 1 are needed"):
        write(built(), tmp_path)
    assert list(tmp_path.iterdir()) == []
