"""The review desk over HTTP: queue, decisions, who sees what, and what happens at once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.options.desk.events import FeedbackKind
from tests.options.desk.desk_scene import Desk, answer_of, desk_scene, feedback, resolution

GLOSSARY = {"said": "jab", "means": "vaccination"}


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_scene(tmp_path) as opened:
        yield opened


@pytest.fixture
async def hipaa(tmp_path: Path) -> AsyncIterator[Desk]:
    async with desk_scene(tmp_path, two_people=True) as opened:
        yield opened


async def resolved(desk: Desk, case: str, kind: str = "glossary_entry", **made: Any) -> Any:
    response = await desk.post(f"cases/{case}/resolution", resolution(kind, **(made or {kind: GLOSSARY})))
    assert response.status_code == 200, response.text
    return response.json()


async def test_a_case_has_its_question_documents_and_reason_and_shows_what_was_shown_and_better(
    desk: Desk,
) -> None:
    case = await desk.case()
    page = (await desk.get("cases")).json()
    (line,) = page["cases"]
    assert (line["case_id"], line["state"], line["reason"]) == (case, "open", "bad_verdict")
    assert line["question"] == "How long is the wait?"
    assert line["documents"] == [{"document_id": "wait", "title": "Title of wait"}]
    assert (line["verdict_reasons"], page["next_after"]) == (["wrong"], None)
    shown = (await desk.get(f"cases/{case}")).json()
    assert (shown["asked"], shown["better_text"]) == ("How long is the wait?", "Three days.")
    assert "The wait is two days." in shown["shown"]
    assert [one["document_id"] for one in shown["sources"]] == ["wait"]
    assert [one["state"] for one in shown["history"]] == ["open"]
    assert "ann" not in orjson.dumps([shown["verdicts"], shown["sent"]]).decode()


READS = ["cases", "cases/CASE", "gaps", "items", "items/approved_answer/ITEM", "export"]


async def test_each_read_of_the_desk_is_in_the_audit_with_titles_and_documents(desk: Desk) -> None:
    await desk.service.know("pay", "Pay comes on Friday.", labels=("hr",))
    case = await desk.case(documents=("wait", "pay"))
    other = await desk.service.answered(question="Where is it?")
    await desk.took(feedback(other["answer_id"], FeedbackKind.UNANSWERED, documents=("wait",)))
    await resolved(desk, case, "approved_answer", approved_answer=answer_of("wait"))
    (item,) = (await desk.get("items", desk.reviewer("rob"))).json()["items"]
    for path in READS:
        read = path.replace("CASE", case).replace("ITEM", item["item_id"])
        assert (await desk.get(read, desk.reviewer("ruth"))).status_code == 200
    auditor = desk.service.headers("audrey", roles=["auditor"])
    audit = await desk.service.client.get("/v1/audit", params={"agent": "ruth"}, headers=auditor)
    entries = [entry for entry in audit.json()["entries"] if entry["kind"] == "desk"]
    subjects = [f"case:{case}" if one == "cases/CASE" else one for one in READS]
    subjects[READS.index("items/approved_answer/ITEM")] = f"approved_answer:{item['item_id']}"
    subjects += ["items"]  # of the export
    assert [entry["subject_id"] for entry in entries] == subjects
    told = {(tuple(entry["documents"]), tuple(entry["titles"])) for entry in entries}
    assert told == {(("wait",), ("Title of wait",)), ((), ())}, "a hidden document was not shown"
    of_document = {"document_id": "wait", "agent": "ruth"}
    audit = await desk.service.client.get("/v1/audit", params=of_document, headers=auditor)
    found = [entry["subject_id"] for entry in audit.json()["entries"] if entry["kind"] == "desk"]
    assert found == [one for one in subjects if one != "gaps"]


async def test_a_bad_verdict_above_the_cap_is_refused_by_name_and_a_repeat_is_not(tmp_path: Path) -> None:
    async with desk_scene(tmp_path, more="[desk]\nopen_cases_per_agent = 1\n") as desk:
        first = await desk.case()
        answered = (await desk.get(f"cases/{first}")).json()["case"]["answer_id"]
        other = (await desk.service.answered(question="Where is it?"))["answer_id"]
        verdict = {"verdict_id": f"v-{answered}", "label": "bad", "better_text": "Three days."}
        statuses: list[Any] = []
        for answer_id, change in ((answered, {}), (other, {}), (other, {"label": "good"})):
            body = verdict | {"verdict_id": f"v-{answer_id}"} | change
            path, agent = f"/v1/answers/{answer_id}/verdict", desk.service.headers()
            response = await desk.service.client.post(path, json=body, headers=agent)
            statuses.append((response.status_code, response.json().get("code")))
            if response.status_code == 409:
                assert "1 ([desk] open_cases_per_agent)" in response.json()["detail"]
        assert statuses == [(200, None), (409, "open_cases_reached"), (200, None)]


async def test_agents_and_auditors_do_not_enter(desk: Desk) -> None:
    for path in ("cases", "gaps", "items", "export"):
        assert (await desk.get(path)).status_code == 200
        for role in ("agent", "auditor"):
            response = await desk.get(path, desk.service.headers(roles=[role]))
            assert (path, response.status_code, response.json()["code"]) == (path, 403, "forbidden")


async def test_a_case_asked_under_other_labels_is_not_there(desk: Desk) -> None:
    case = await desk.case(labels=("hr", "desk"))
    with_labels = desk.reviewer("rita", "hr", "desk")
    assert (await desk.get(f"cases/{case}", with_labels)).status_code == 200
    for labels in ((), ("hr",)):
        without = desk.reviewer("rita", *labels)
        assert (await desk.get("cases", without)).json()["cases"] == []
        unknown, other = [await desk.get(f"cases/{name}", without) for name in ("0" * 32, case)]
        assert (other.status_code, other.json()) == (404, unknown.json())
        refused = await desk.post(f"cases/{case}/resolution", resolution("dismissed", note="no"), without)
        assert refused.status_code == 404


async def test_an_owner_sees_and_resolves_the_cases_of_their_own_documents_alone(desk: Desk) -> None:
    case = await desk.case()
    asked = resolution("correction", note="Say three days.")
    olga = desk.owner("olga")
    assert (await desk.get(f"cases/{case}", olga)).status_code == 200
    for who in (
        desk.owner("wim"),
        desk.service.headers("olga", tenant="pharmacy", roles=["knowledge_owner"]),
    ):
        assert (await desk.get("cases", who)).json()["cases"] == []
        assert (await desk.get(f"cases/{case}", who)).status_code == 404
        assert (await desk.post(f"cases/{case}/resolution", asked, who)).status_code == 404
    assert (await desk.post(f"cases/{case}/resolution", asked, olga)).json()["case"]["state"] == "asked_owner"


async def test_an_item_is_seen_and_moved_by_reviewers_and_by_the_owner_of_its_sources(desk: Desk) -> None:
    case = await desk.case()
    await resolved(desk, case, "approved_answer", approved_answer=answer_of("wait"))
    (item,) = (await desk.get("items", desk.owner("olga"))).json()["items"]
    path = f"items/approved_answer/{item['item_id']}"
    assert (await desk.get(path, desk.owner("olga"))).status_code == 200
    withdrawn = {"revision": 1, "state": "withdrawn"}
    assert (await desk.get("items", desk.owner("wim"))).json()["items"] == []
    assert (await desk.get(path, desk.owner("wim"))).status_code == 404
    assert (await desk.post(f"{path}/state", withdrawn, desk.owner("wim"))).status_code == 404
    stranger = desk.service.headers("rita", tenant="pharmacy", roles=["reviewer"])
    assert (await desk.get(path, stranger)).status_code == 404
    assert (await desk.post(f"{path}/state", withdrawn, desk.service.headers())).status_code == 403
    assert (await desk.post(f"{path}/state", withdrawn, desk.owner("olga"))).status_code == 200


async def test_an_owner_binds_an_answer_to_own_documents_only(desk: Desk) -> None:
    await desk.service.know("wiki:hall", "The hall is open.")
    case = await desk.case()
    olga = desk.owner("olga")
    made = resolution("approved_answer", approved_answer=answer_of("wait", "wiki:hall"))
    assert (await desk.post(f"cases/{case}/resolution", made, olga)).status_code == 404
    made = resolution("approved_answer", approved_answer=answer_of())
    assert (await desk.post(f"cases/{case}/resolution", made, olga)).status_code == 422
    made = resolution("glossary_entry", glossary_entry=GLOSSARY)
    assert (await desk.post(f"cases/{case}/resolution", made, olga)).status_code == 403
    made = resolution("approved_answer", approved_answer=answer_of("wait"))
    assert (await desk.post(f"cases/{case}/resolution", made, olga)).status_code == 200


async def test_an_approved_answer_is_live_at_once_bound_and_labelled(desk: Desk) -> None:
    document = await desk.service.know("pay", "Pay comes on Friday.", labels=("hr",))
    case = await desk.case(labels=("desk", "hr"))
    rita = desk.reviewer("rita", "desk", "hr")
    made = resolution("approved_answer", approved_answer=answer_of("pay"))
    after = await desk.post(f"cases/{case}/resolution", made, rita)
    assert (after.json()["revision"], after.json()["case"]["state"]) == (2, "resolved")
    (item,) = (await desk.get("items", rita, kind="approved_answer")).json()["items"]
    answer = item["approved_answer"]
    assert (item["state"], answer["labels"]) == ("live", ["desk", "hr"])
    assert answer["sources"] == [{"document_id": "pay", "content_hash": document.content_hash()}]
    assert "vectors" not in answer
    assert (await desk.get("items", desk.reviewer("rita", "hr"))).json()["items"] == []
    hidden = await desk.get(f"items/approved_answer/{item['item_id']}", desk.reviewer("rita", "hr"))
    assert hidden.status_code == 404


async def test_under_hipaa_another_person_approves(hipaa: Desk) -> None:
    case = await hipaa.case()
    proposed = await resolved(hipaa, case, "approved_answer", approved_answer=answer_of("wait"))
    assert proposed["case"]["state"] == "proposed"
    (item,) = (await hipaa.get("items")).json()["items"]
    assert item["state"] == "proposed"
    approval = {"revision": 2, "approve": True}
    own = await hipaa.post(f"cases/{case}/approval", approval)
    assert (own.status_code, own.json()["code"]) == (403, "forbidden")
    assert "another person" in own.json()["detail"]
    around = f"items/approved_answer/{item['item_id']}/state"
    assert (await hipaa.post(around, {"revision": 1, "state": "live"})).status_code == 409
    second = await hipaa.post(f"cases/{case}/approval", approval, hipaa.reviewer("ruth"))
    assert second.json()["case"]["state"] == "resolved"
    assert second.json()["case"]["approved_by"] == "ruth"
    (item,) = (await hipaa.get("items")).json()["items"]
    assert (item["state"], item["approved_answer"]["approved_by"]) == ("live", "ruth")


async def test_under_hipaa_two_people_ask_for_the_export(hipaa: Desk) -> None:
    case = await hipaa.case()
    answers = [await hipaa.get("export", hipaa.reviewer(who)) for who in ("rita", "rita", "ruth")]
    told = [(one.status_code, one.json()["code"]) for one in answers]
    assert told == [(409, "second_person_needed"), (403, "forbidden"), (409, "second_person_needed")]
    assert "Another person must" in answers[0].json()["detail"]
    assert "rita asked for export of desk: 1 cases and items" in answers[2].json()["detail"]
    contents = re.findall("[0-9a-f]{64}", answers[2].json()["detail"])[-1]
    exported = await hipaa.get("export", hipaa.reviewer("ruth"), contents=contents)
    assert [orjson.loads(line)["case"]["case_id"] for line in exported.text.splitlines()] == [case]
    await resolved(hipaa, case)
    changed = await hipaa.get("export", hipaa.reviewer("ruth"), contents=contents)
    assert (changed.status_code, changed.json()["code"]) == (409, "contents_changed")


async def test_a_refused_proposal_opens_the_case_again_and_withdraws_the_item(hipaa: Desk) -> None:
    case = await hipaa.case()
    await resolved(hipaa, case)
    ruth = hipaa.reviewer("ruth")
    refused = await hipaa.post(
        f"cases/{case}/approval", {"revision": 2, "approve": False, "note": "No."}, ruth
    )
    assert (refused.json()["case"]["state"], refused.json()["case"]["resolution"]) == ("open", None)
    (item,) = (await hipaa.get("items")).json()["items"]
    assert (item["state"], item["note"]) == ("withdrawn", "No.")


async def test_under_hipaa_a_withdrawn_item_comes_back_by_two_people(hipaa: Desk) -> None:
    case = await hipaa.case()
    await resolved(hipaa, case)
    ruth = hipaa.reviewer("ruth")
    assert (await hipaa.post(f"cases/{case}/approval", {"revision": 2, "approve": True}, ruth)).is_success
    (item,) = (await hipaa.get("items")).json()["items"]
    path = f"items/glossary_entry/{item['item_id']}/state"
    assert (await hipaa.post(path, {"revision": 2, "state": "withdrawn"})).is_success
    back = await hipaa.post(path, {"revision": 3, "state": "live"})
    assert back.json()["revisions"][-1]["state"] == "proposed"
    assert (await hipaa.post(path, {"revision": 4, "state": "live"})).status_code == 403
    assert (await hipaa.post(path, {"revision": 4, "state": "live"}, ruth)).json()["revisions"][-1][
        "state"
    ] == "live"


async def test_reopening_withdraws_what_was_made_and_restoring_brings_it_back(desk: Desk) -> None:
    case = await desk.case()
    await resolved(desk, case)
    assert (await desk.post(f"cases/{case}/reopen", {"revision": 2, "note": "Wrong word."})).is_success
    (item,) = (await desk.get("items", kind="glossary_entry")).json()["items"]
    assert item["state"] == "withdrawn"
    path = f"items/glossary_entry/{item['item_id']}/restore"
    back = await desk.post(path, {"revision": 2, "to_revision": 1, "note": "It was right."})
    assert [one["state"] for one in back.json()["revisions"]] == ["live", "withdrawn", "live"]
    assert (await desk.post(path, {"revision": 3, "to_revision": 3})).status_code == 422


@pytest.mark.parametrize("act", ["restore", "state"])
async def test_an_approved_answer_comes_back_by_who_may_read_its_sources_and_with_their_labels_of_today(
    desk: Desk, act: str
) -> None:
    await resolved(desk, await desk.case(), "approved_answer", approved_answer=answer_of("wait"))
    (item,) = (await desk.get("items", kind="approved_answer")).json()["items"]
    path = f"items/approved_answer/{item['item_id']}"
    assert (await desk.post(f"{path}/state", {"revision": 1, "state": "withdrawn"})).is_success
    await desk.service.know("wait", "The wait is two days.", labels=("desk", "hr"))
    back: dict[str, Any] = {"revision": 2}
    back |= {"to_revision": 1} if act == "restore" else {"state": "live"}
    unreadable = await desk.post(f"{path}/{act}", back)
    assert (unreadable.status_code, unreadable.json()["code"]) == (404, "not_found")
    partly = await desk.post(f"{path}/{act}", back, desk.reviewer("rita", "hr"))
    assert (partly.status_code, partly.json()["code"]) == (422, "invalid_request")
    assert "would need the labels desk, which you do not hold" in partly.json()["detail"]
    whole = await desk.post(f"{path}/{act}", back, desk.reviewer("rita", "desk", "hr"))
    assert whole.json()["revisions"][-1]["approved_answer"]["labels"] == ["desk", "hr"]
    assert (await desk.get(path)).status_code == 404


WRONG = [
    (resolution("dismissed"), "needs a note"),
    (resolution("approved_answer"), "takes the field approved_answer alone"),
    (resolution("dismissed", note="no", glossary_entry=GLOSSARY), "takes none of"),
    (resolution("glossary_entry", glossary_entry={"said": " ", "means": "x"}), "said"),
    (resolution("approved_answer", approved_answer=answer_of("wait", expires_on="2020-01-01")), "future"),
    (resolution("approved_answer", approved_answer=answer_of("wait", labels=["nope"])), "no label"),
    (resolution("approved_answer", approved_answer=answer_of("wait", labels=["hr"])), "do not hold"),
    (resolution("approved_answer", approved_answer=answer_of("wait", questions=[])), "questions"),
    (resolution("dismissed", note="no", colour="red"), "Unknown field colour"),
    (resolution("document_question", note="no"), "kind"),
]


async def test_a_wrong_decision_says_what_is_wrong(desk: Desk) -> None:
    case = await desk.case()
    for body, says in WRONG:
        refused = await desk.post(f"cases/{case}/resolution", body)
        assert (says, refused.status_code) == (says, 422), refused.text
        assert says in refused.json()["detail"]
    assert (await desk.get(f"cases/{case}")).json()["revision"] == 1
    assert (await desk.get("items")).json()["items"] == []
