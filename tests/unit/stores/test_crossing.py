"""What a tenant's stores keep is unknown to those of another."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from assistant.domain.answers import Sent, Verdict, VerdictLabel
from assistant.domain.audit import AccessQuery
from assistant.domain.desk import DeskItem, DeskKind
from tests.contracts import samples
from tests.stage.tenant_stores import TenantStores

GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
TOKEN_ID = "7" * 64
DAY = timedelta(days=1)
SUBJECT = "document:refill"


async def test_another_tenant_finds_nothing_and_uses_the_same_ids(
    stores: TenantStores, tmp_path: Path
) -> None:
    own, stranger = stores, TenantStores(tmp_path / "stranger")
    await own.records.put_answer(samples.answer().model_copy(update={"passages": (samples.use("refill"),)}))
    await own.records.append_verdict("a1", GOOD, agent="ana")
    await own.records.append_sent("a1", Sent(send_id="s1", text="Day 24."), agent="ana")
    await own.records.record_access(samples.read("ana"))
    assert await own.records.take_place("a1", "sends", "s1", most=1)
    await own.claims.claim(samples.claim("a1"))
    await own.claims.cancel("a1")
    await own.claims.count_context(TOKEN_ID, answer_id="a1", key=None)
    await own.states.put_many([samples.status()])
    await own.documents.put(samples.document())
    keys = await own.erasure_keys.keys_of([SUBJECT], create=True)
    item = DeskItem(
        kind=DeskKind.APPROVED_ANSWER, item_id="a", revision=1, at=samples.NOON, by="rita", note="", body="{}"
    )
    await own.desk.put(item)

    records, claims = stranger.records, stranger.claims
    assert await records.get_answer("a1") is None
    assert await records.list_conversation("c1") == []
    assert (await records.list_verdicts(), await records.list_sent("a1")) == ([], [])
    assert (await records.list_accesses(AccessQuery(samples.NOON - DAY, samples.NOON + DAY))).entries == ()
    assert await records.take_place("a1", "sends", "s2", most=1)
    own_verdict = await records.append_verdict("a2", GOOD, agent="ben")
    assert await records.list_verdicts() == [own_verdict]
    assert (await claims.claim(samples.claim("a2"))).answer_id == "a2"
    assert list(await claims.cancelled(["a1"])) == []
    assert await claims.count_context(TOKEN_ID, answer_id="a2", key=None)
    assert (await stranger.states.get("refill"), await stranger.states.list()) == (None, [])
    assert await stranger.documents.get("refill") is None
    assert await stranger.erasure_keys.keys_of([SUBJECT], create=True) != keys
    assert (await stranger.desk.get(item.kind, "a"), await stranger.desk.version()) == (None, 0)
    await stranger.close()
