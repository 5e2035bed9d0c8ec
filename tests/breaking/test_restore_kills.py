"""A rehearsed restore that is killed again and again ends equal, and names what does not come back.

``KILLS`` of ten points (3 unless told) and ``RESTORED`` documents and records (120 unless told):
``check-restore`` takes all, and 10,000 of each, and prints the times. The command is a process of its
own, the account an emulator over HTTP.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncGenerator, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from assistant.domain.documents import OriginalFile
from tests.breaking.restored_site import Site, sample, site
from tests.unit.documents.scene import ScriptedEndpoint, scripted_endpoint

COUNT = int(os.environ.get("RESTORED", "120"))
_PAGES = max(1, COUNT // 500)
_PAGE = "documents are compared"
POINTS = [
    ("removal", 1),  # the first one has the times of a whole run
    (_PAGE, 1),
    ("tables", 1),
    ("documents and index", 1),
    *((_PAGE, max(1, _PAGES * tenths // 10)) for tenths in (3, 5, 7, 10)),
    ("records", 1),
    ("audit", 1),
][: int(os.environ.get("KILLS", "3"))]
"""Where it is killed: at the n-th line of its progress with these words."""


@pytest.fixture
def endpoint() -> Iterator[ScriptedEndpoint]:
    with scripted_endpoint() as server:
        yield server


@pytest.fixture
async def tenant(tmp_path: Path, aws_server_url: str, endpoint: ScriptedEndpoint) -> AsyncGenerator[Site]:
    async with site(tmp_path, aws_url=aws_server_url, endpoint=endpoint) as made:
        yield made


async def filled(tenant: Site, count: int) -> datetime:
    """Fill the tenant; return the moment to which it can be restored."""
    await tenant.know(sample(count))
    await tenant.answer(count)
    await tenant.close_days()
    tenant.keep_moment()
    return datetime.now(UTC)


@pytest.mark.timeout(3600)
async def test_a_killed_rehearsal_ends_equal(tenant: Site) -> None:
    await filled(tenant, COUNT)
    rows = {role: len(tenant.rows(tenant.table(role))) for role in ("records", "desk", "states")}
    before = tenant.digest()
    for words, times in POINTS:
        status, _, lines = await tenant.rehearse(kill_at=words, times=times)
        steps = [line.strip() for line in lines if "as of" in line]
        sys.stdout.write(f"killed at {words} {times}: {steps[-1]}\n")
        assert status < 0, f"not killed at {words}: {lines[-3:]}"
        assert tenant.copies()
    status, report, lines = await tenant.rehearse()
    assert report["findings"] == [], lines[-3:]
    assert status == 0
    assert {role: report["restored"][role] for role in rows} == rows
    assert report["restored"]["documents"] == rows["states"] == COUNT
    assert report["restored"]["audited days"] >= 1
    assert not any(report["newer"].values())
    assert tenant.digest() == before
    assert tenant.copies() == []
    sys.stdout.write(f"{json.dumps(report)}\n")


async def test_the_tenant_goes_on_after_the_moment(tenant: Site) -> None:
    at = await filled(tenant, 20)
    first, second, *rest = sample(20)
    await tenant.know([first.model_copy(update={"content": "Replaced since."}), *sample(22)[20:]])
    await tenant.withdraw(second.document_id)
    await tenant.answer(3, first=20, begin=datetime.now(UTC))
    status, report, lines = await tenant.rehearse("--at", at.isoformat())
    assert report.get("findings") == [], lines
    assert status == 0
    assert report["restored"]["documents"] == 1 + len(rest)
    assert report["withdrawn_since"] == 1
    assert not report["went_on"]
    assert report["newer"]["records"]
    assert report["newer"]["states"] == 2


async def test_what_does_not_come_back_is_named(tenant: Site) -> None:
    original = OriginalFile(name="a.pdf", sha256="0" * 64, size_bytes=9)
    lost, damaged, recounted, former = sample(20)[:4]
    unread = sample(1)[0].model_copy(update={"document_id": "unread", "original": original})
    await tenant.know([unread])
    await filled(tenant, 20)
    tenant.delete_versions(lost.document_id)
    tenant.damage(damaged.document_id)
    await tenant.rehearse(kill_at="documents and index")
    (records,) = [name for name in tenant.restored() if "-records-" in name]
    tenant.remove_row(records, "answer#a1", "answer")
    tenant.change_row(records, "answer#a2", "answer")
    tenant.remove_row(records, f"access#{tenant.day()}", None)
    (states,) = [name for name in tenant.restored() if "-states-" in name]
    tenant.change_status(states, recounted.document_id, passage_count=99)
    tenant.change_status(tenant.table("states"), former.document_id, updated_at=f"{tenant.day()}T00:00:00Z")
    tenant.remove_row(tenant.table("records"), "answer#a7", "answer")
    status, report, _ = await tenant.rehearse()
    assert status == 1
    said = "\n".join(report["findings"])
    for gone in (lost, damaged, unread):
        assert f"document {gone.document_id}: no whole version has the content that answered." in said
    assert f"document {recounted.document_id}: its index is not as it was" in said
    assert f"document {former.document_id}: it comes back live, and has long been otherwise." in said
    assert "records ('answer#a7', 'answer'): it is restored, and the live table lacks it." in said
    assert "records ('answer#a1', 'answer'): it is older, and not restored." in said
    assert "records ('answer#a2', 'answer'): it is restored with other content." in said
    assert f"audit {tenant.day()}: " in said
    assert tenant.copies() == []


async def test_a_table_that_is_live_is_never_taken_for_a_copy(
    tmp_path: Path, aws_server_url: str, endpoint: ScriptedEndpoint
) -> None:
    stamp = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    async with site(
        tmp_path, aws_url=aws_server_url, endpoint=endpoint, desk=f"records-rehearsal-{stamp}"
    ) as made:
        status, _, lines = await made.rehearse()
        assert status != 0
        assert "and named as a rehearsal's: nothing was done" in " ".join(lines)
        assert made.restored() == [made.table(f"records-rehearsal-{stamp}")]
