"""Replies whose words fell are listed once, with their lines; a look that finds none is kept."""

from __future__ import annotations

import asyncio
import csv
import io
from collections.abc import AsyncGenerator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest

from assistant.domain.clock import SystemClock
from assistant.domain.desk import DeskKind, ItemState, first_revision
from assistant.domain.documents import DocumentState
from assistant.domain.errors import ConflictError
from assistant.domain.in_force import InForce
from assistant.options.desk.cases import DeskServices
from assistant.options.desk.read_recalls import ReadRecalls
from assistant.options.desk.recalls import StoredSends
from assistant.options.desk.sweep import RecallSweep
from assistant.stores.sqlite_table import SqliteTable
from tests.options.desk.desk import approved
from tests.options.desk.desk_scene import PLAIN_IDS, WAIT, RecallScene, recall_scene
from tests.stage.running_service import Scene, eventually, service_on

THREE = WAIT.replace("two days", "three days")


def kept_words(folder: Path) -> list[Path]:
    """Return the files of the desk's table that have the line of the document."""
    files = [path for path in folder.rglob("desk.sqlite*") if path.is_file()]
    assert files
    return [path for path in files if b"two days" in path.read_bytes()]


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncGenerator[RecallScene]:
    async with recall_scene(tmp_path) as scene:
        yield scene


@pytest.fixture
async def fallen(scene: RecallScene) -> dict[str, Any]:
    """Return the place in the list of a reply whose line changed."""
    await scene.sent("s1")
    await scene.sweep()
    await scene.service.know("wait", THREE)
    await scene.sweep()
    (item,) = await scene.listed()
    return item


async def test_a_reply_whose_line_changed_is_listed_once_with_both_lines(scene: RecallScene) -> None:
    answer = await scene.sent("s1")
    await scene.sweep()
    assert await scene.listed() == []
    await scene.service.know("wait", THREE)
    await scene.sweep()
    await scene.sweep()
    (listed,) = await scene.listed()
    item = listed["item"]
    assert (item["reply"]["answer_id"], item["reply"]["agent"]) == (answer["answer_id"], "ann")
    assert (item["state"], item["owner"], listed["is_gone"]) == ("open", None, False)
    assert listed["lines"] == [{"old": "The wait is two days.", "new": "The wait is three days."}]
    assert listed["title"] == "Title of wait"
    (change,) = await scene.changes()
    assert (change["kind"], change["replies"], change["affected"]) == ("changed", 1, 1)


async def test_a_withdrawn_document_lists_every_reply_and_shows_no_word(
    scene: RecallScene, tmp_path: Path
) -> None:
    await scene.sent("s1")
    await scene.sweep()
    await scene.service.withdraw("wait")
    await scene.sweep()
    (listed,) = await scene.listed()
    assert listed["is_gone"]
    assert {(line["old"], line["new"]) for line in listed["lines"]} == {(None, None)}
    (change,) = await scene.changes()
    assert (change["kind"], change["now"], change["affected"]) == ("withdrawn", "", 1)
    one = await scene.get(f"/{listed['item_id']}")
    assert "two days" not in orjson.dumps([one, change]).decode()
    assert kept_words(tmp_path) == []
    owner = scene.desk.owner()
    receipt = await scene.service.client.get("/v1/documents/wait/receipt", headers=owner)
    assert "recall" in [place["place"] for place in receipt.json()["places"]]


async def test_a_withheld_document_waits_for_its_next_content(scene: RecallScene) -> None:
    await scene.sent("s1")
    await scene.sweep()
    services = scene.service.tenants["clinic"].part(DeskServices)
    (status,) = (await services.knowledge.states.get_many(["wait"])).values()
    withheld = status.model_copy(update={"state": DocumentState.WITHHELD})
    await services.knowledge.states.put_many([withheld])
    await scene.sweep()
    assert await scene.listed() == []
    await scene.service.know("wait", THREE)
    await scene.sweep()
    assert len(await scene.listed()) == 1


async def test_a_rule_whose_last_day_is_over_lists_its_replies_until_it_is_extended(
    scene: RecallScene,
) -> None:
    await scene.sent("s1")
    services = scene.service.tenants["clinic"].part(DeskServices)
    (status,) = (await services.knowledge.states.get_many(["wait"])).values()
    today = (await services.store.now()).date()
    for until, gone in ((today, []), (today - timedelta(days=1), [True]), (today + timedelta(days=9), [])):
        dated = status.model_copy(update={"in_force": InForce(until=until)})
        await services.knowledge.states.put_many([dated])
        await scene.sweep()
        assert [each["is_gone"] for each in await scene.listed(state="open")] == gone


async def test_an_approved_answer_that_falls_lists_its_replies_and_one_that_stands_again_ends_them(
    scene: RecallScene,
) -> None:
    services = scene.service.tenants["clinic"].part(DeskServices)
    body = approved("How long is the wait?", "Five days, by decision.")
    item = first_revision(DeskKind.APPROVED_ANSWER, "one", body, by="rita", at=SystemClock().now())
    await services.store.put(item)

    async def is_approved() -> bool:
        return (await scene.service.answered())["sources"][0]["kind"] == "approved"

    await eventually(is_approved)
    await scene.sent("s1")
    await scene.sweep()
    suspended = body.model_copy(update={"state": ItemState.SUSPENDED, "suspended_because": "Its source."})
    item = await services.put_next(item, suspended, by="desk", note="")
    await scene.sweep()
    (listed,) = await scene.listed(state="open")
    assert (listed["item"]["reply"]["document_id"], listed["is_gone"]) == ("approved/one", True)
    assert (listed["title"], listed["lines"][0]["old"]) == (body.questions[0], "Five days, by decision.")
    assert await scene.listed(who=scene.desk.owner()) == []
    item = await services.put_next(item, body, by="rita", note="")
    await scene.sweep()
    assert await scene.listed(state="open") == []
    (ended,) = await scene.listed(state="not_needed")
    assert ended["item"]["note"] == "Its words stand again."
    expired = suspended.model_copy(update={"suspended_because": f"It expired on {body.expires_on}."})
    await services.put_next(item, expired, by="desk", note="")
    await scene.sweep()
    assert await scene.listed(state="open") == []
    assert [change["kind"] for change in await scene.changes()] == ["restored", "withdrawn"]


async def test_somebody_takes_a_reply_and_closes_it_on_the_newest_revision(
    scene: RecallScene, fallen: dict[str, Any]
) -> None:
    item_id = fallen["item_id"]
    taken = (await scene.decide(item_id, revision=1, do="take")).json()["recall"]["item"]
    assert (taken["owner"], taken["state"], taken["revision"]) == ("rita", "open", 2)
    assert (await scene.decide(item_id, revision=1, do="told")).status_code == 409
    assert (await scene.decide(item_id, revision=2, do="not_needed")).status_code == 422
    assert (await scene.decide(item_id, revision=2, do="reopen", note="?")).status_code == 409
    closed = (await scene.decide(item_id, revision=2, do="told", note="By phone.")).json()
    assert closed["recall"]["item"]["state"] == "told"
    assert [(step["state"], step["by"]) for step in closed["history"]] == [
        ("open", "recall"),
        ("open", "rita"),
        ("told", "rita"),
    ]
    assert closed["sent"] == "Sent as s1."
    assert await scene.listed(state="open") == []
    assert (await scene.decide(item_id, revision=3, do="told")).status_code == 409
    again = (await scene.decide(item_id, revision=3, do="reopen", note="Wrong person.")).json()
    assert again["recall"]["item"]["state"] == "open"


async def test_who_has_the_new_words_is_listed_again_where_the_old_ones_return(
    scene: RecallScene, fallen: dict[str, Any]
) -> None:
    assert (await scene.decide(fallen["item_id"], revision=1, do="told")).is_success
    await scene.service.know("wait", WAIT)
    await scene.sweep()
    (again,) = await scene.listed(state="open")
    assert (again["item_id"], again["item"]["owner"]) == (fallen["item_id"], "rita")
    assert again["item"]["note"] == "Words that were replaced stand again."


async def test_who_lacks_a_label_sees_neither_reply_nor_change(tmp_path: Path) -> None:
    async with recall_scene(tmp_path) as scene:
        await scene.service.know("pay", "Pay comes on Friday.", labels=("hr",))
        await scene.sent("s1", question="When does pay come?", labels=("hr",))
        await scene.sweep()
        await scene.service.know("pay", "Pay comes on Monday.", labels=("hr",))
        await scene.sweep()
        holder, other = scene.desk.reviewer("rita", "hr"), scene.desk.reviewer("rob")
        (listed,) = await scene.listed(who=holder)
        assert listed["lines"][0] == {"old": "Pay comes on Friday.", "new": "Pay comes on Monday."}
        assert [change["title"] for change in await scene.changes(holder)] == ["Title of pay"]
        assert (await scene.listed(who=other), await scene.changes(other)) == ([], [])
        path = f"/v1/recalls/{listed['item_id']}"
        for who, status in ((holder, 200), (other, 404)):
            assert (await scene.service.client.get(path, headers=who)).status_code == status
        assert (await scene.decide(listed["item_id"], other, revision=1, do="take")).status_code == 404
        for what in ("replies", "changes"):
            for who, count in ((holder, 1), (other, 0)):
                params = {"what": what, "form": "ndjson"}
                export = await scene.service.client.get("/v1/recalls/export", params=params, headers=who)
                assert len(export.text.splitlines()) == count


async def test_a_label_that_came_later_hides_words_and_title(
    scene: RecallScene, fallen: dict[str, Any]
) -> None:
    assert fallen["title"]
    await scene.service.know("wait", THREE, labels=("hr",))
    await scene.sweep()
    (listed,) = await scene.listed()
    assert (listed["title"], listed["lines"]) == ("", [{"old": None, "new": None}])


async def test_an_owner_sees_replies_of_own_sources_alone(scene: RecallScene, fallen: dict[str, Any]) -> None:
    assert [item["item_id"] for item in await scene.listed(who=scene.desk.owner())] == [fallen["item_id"]]
    wim = scene.desk.owner("wim")
    assert (await scene.listed(who=wim), await scene.changes(wim)) == ([], [])
    agent = await scene.service.client.get("/v1/recalls", headers=scene.service.headers())
    assert agent.status_code == 403


async def test_under_hipaa_two_people_export(tmp_path: Path) -> None:
    async with recall_scene(tmp_path, two_people=True) as scene:
        get, rita, rob = scene.service.client.get, scene.desk.reviewer(), scene.desk.reviewer("rob")
        asked = await get("/v1/recalls/export", headers=rita)
        assert (asked.status_code, asked.json()["code"]) == (409, "second_person_needed")
        contents = (await scene.service.tenants["clinic"].part(ReadRecalls).contents()).digest
        path = f"/v1/recalls/export?contents={contents}"
        assert (await get(path, headers=rita)).status_code == 403
        assert (await get(path, headers=rob)).status_code == 200


async def test_a_reply_names_its_customer_and_has_the_address_that_the_tenant_file_gives(
    tmp_path: Path,
) -> None:
    url = "https://desk.example/#{chat}"
    more = f'{PLAIN_IDS}[desk.recall]\ndue_days = 5\nconversation_url = "{url}"\n'
    async with recall_scene(tmp_path, more=more) as scene:
        answer = await scene.sent("s1", context={"customer": "bo", "ids": {"chat": ["5/0c"]}})
        await scene.sweep()
        await scene.service.know("wait", THREE)
        await scene.sweep()
        (listed,) = await scene.listed()
        reply = listed["item"]["reply"]
        assert (reply["customer"], reply["chat"]) == ("bo", "5/0c")
        assert listed["conversation_url"] == "https://desk.example/#5%2F0c"
        assert reply["answer_id"] == answer["answer_id"]
        assert listed["item"]["due_on"] > listed["item"]["at"][:10]


async def test_who_reads_the_list_is_recorded(scene: RecallScene, fallen: dict[str, Any]) -> None:
    ruth = scene.desk.reviewer("ruth")
    await scene.get(who=ruth)
    await scene.get("/changes", who=ruth)
    await scene.get(f"/{fallen['item_id']}", who=ruth)
    auditor = scene.service.headers("audrey", roles=["auditor"])
    audit = await scene.service.client.get("/v1/audit", params={"agent": "ruth"}, headers=auditor)
    entries = audit.json()["entries"]
    assert [entry["subject_id"] for entry in entries] == ["recalls", "recalls", f"recall:{fallen['item_id']}"]
    assert all((entry["documents"], entry["titles"]) == (["wait"], ["Title of wait"]) for entry in entries)


async def test_a_task_of_the_service_that_starts_makes_up_what_was_not_swept(scene: RecallScene) -> None:
    await scene.sent("s1")
    await scene.sweep()
    await scene.service.know("wait", THREE)
    service = scene.service
    assert service.settings is not None
    async with service_on(service.settings, Scene(writes=False), service.sagemaker):

        async def is_listed() -> bool:
            return len(await scene.listed()) == 1

        await eventually(is_listed)


async def test_sweeps_at_the_same_time_list_each_reply_once(scene: RecallScene) -> None:
    for number in range(12):
        await scene.sent(f"s{number}")
    served = scene.service.tenants["clinic"]
    recalls = served.part(ReadRecalls).store
    sends = StoredSends(SqliteTable(scene.service.state_dir / "tenants" / "clinic" / "records.sqlite"))
    sweeps = [RecallSweep(served.part(DeskServices), recalls, sends, due_days=3) for _ in range(3)]

    async def to_its_end(sweep: RecallSweep) -> None:
        while True:
            with suppress(ConflictError):
                return await sweep()

    for text in (WAIT, THREE, THREE.replace("three", "four"), WAIT.replace("two", "six")):
        await scene.service.know("wait", text)
        await asyncio.gather(*map(to_its_end, sweeps))
    assert len(await scene.listed()) == 12
    assert [(change["replies"], change["affected"]) for change in await scene.changes()] == [
        (12, 0),
        (12, 0),
        (12, 12),
    ]


async def test_other_labels_of_the_same_words_are_no_change(scene: RecallScene) -> None:
    await scene.sent("s1")
    await scene.sweep()
    await scene.service.know("wait", WAIT, labels=("hr",))
    await scene.sweep()
    assert (await scene.listed(), await scene.changes()) == ([], [])


async def test_another_line_that_falls_opens_a_closed_reply(
    scene: RecallScene, fallen: dict[str, Any]
) -> None:
    assert (await scene.decide(fallen["item_id"], revision=1, do="told")).is_success
    await scene.service.know("wait", THREE + "\n\nAnother line.")
    await scene.sweep()
    assert await scene.listed(state="open") == []
    await scene.service.withdraw("wait")
    await scene.sweep()
    assert len(await scene.listed(state="open")) == 1


async def test_the_export_is_a_table_without_formulas(scene: RecallScene) -> None:
    await scene.service.know("wait", "=1+1 is the wait of two days.")
    await scene.sent("s1", agent="ann")
    await scene.sweep()
    await scene.service.know("wait", "The wait is three days.")
    await scene.sweep()
    headers = scene.desk.reviewer()
    response = await scene.service.client.get("/v1/recalls/export", headers=headers)
    assert response.headers["content-disposition"] == 'attachment; filename="recall-replies.csv"'
    (row,) = csv.DictReader(io.StringIO(response.text))
    assert (row["old"], row["agent"], row["state"]) == ("'=1+1 is the wait of two days.", "ann", "open")
    assert row["note"] == row["owner"] == "", "an empty cell stays empty"
    changes = await scene.service.client.get("/v1/recalls/export?what=changes", headers=headers)
    (change,) = csv.DictReader(io.StringIO(changes.text))
    assert (change["document_id"], change["replies"], change["affected"]) == ("wait", "1", "1")
