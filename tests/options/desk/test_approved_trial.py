"""What is counted of approved answers."""

from __future__ import annotations

from pathlib import Path

from assistant.options.desk.trial import TRIALS, ApprovedItem
from tests.fakes.answering import FakeTenant
from tests.unit.evaluation.results import question

ITEM = ApprovedItem(
    approved_id="refill",
    question="When is a refill payable?",
    text="On day 23.",
    document_ids=("refills",),
    paraphrases=("when is a refill payable",),
    lookalikes=("Which dog may enter the shop?",),
)


async def test_an_approved_answer_is_seen_by_its_paraphrase_and_no_other(tmp_path: Path) -> None:
    others = [question("a", documents=("refills",)), question("b", documents=("x",))]
    approved, asked = tmp_path / "approved.jsonl", tmp_path / "others.jsonl"
    approved.write_text(ITEM.model_dump_json())
    asked.write_text("\n".join(one.model_dump_json() for one in others))
    judged = await TRIALS["approved"](FakeTenant().services, (approved, asked))
    assert [one.id.split()[0] for one in judged] == ["paraphrases", "look-alikes", "others"]
    assert judged[0].values["paraphrases that see their answer"] == 1.0
    assert all(one.values["wrongly served"] == 0.0 for one in judged)
