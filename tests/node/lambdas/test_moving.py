"""The deployed mover takes signals from the table of records to the buckets of feedback, and erases."""

from __future__ import annotations

import re
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.desk import Case, CaseReason, DeskKind
from assistant.options.desk.events import FeedbackEvent, FeedbackKind
from assistant.options.desk.feedback_store import FEEDBACK_FILES, TEXTS, StoredFeedback
from assistant.options.desk.mover import StoredOutbox
from assistant.options.desk.settings import MovingSettings
from assistant.process.aws import create_link_secret, open_client
from assistant.stores.desk import StoredDesk
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.stores.events import StoredErasureKeys
from assistant.stores.records import StoredRecords
from assistant.stores.s3 import S3Blobs
from assistant.tenant.deployed_names import DESK, EVENTS, FEEDBACK_SECRET_PURPOSE, RECORDS, STATES
from tests.contracts import samples
from tests.node.lambdas.conftest import called_once, entry_of
from tests.options.desk.moving import unanswered
from tests.stage.aws_server import REGION, create_key
from tests.stage.emulated_aws import create_documents_bucket, create_table

TENANT_FILE = 'schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n'
GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
BAD = Verdict(verdict_id="v1", label=VerdictLabel.BAD)
SCHEDULED = {"detail-type": "Scheduled Event", "source": "aws.scheduler"}


@dataclass
class Deployed:
    name: str
    aws_url: str
    folder: Path
    key_id: str
    records: StoredRecords
    outbox: StoredOutbox
    feedback: StoredFeedback
    desk: StoredDesk

    def function(self, monkeypatch: pytest.MonkeyPatch, **changed: Any) -> Any:
        given = {
            "region": REGION,
            "aws_endpoint_url": self.aws_url,
            "records_table": f"{self.name}-records",
            "events_table": f"{self.name}-events",
            "states_table": f"{self.name}-states",
            "desk_table": f"{self.name}-desk",
            "documents_bucket": f"{self.name}-documents",
            "labels_bucket": f"{self.name}-labels",
            "texts_bucket": f"{self.name}-texts",
            "feedback_key_id": self.key_id,
            "pseudonyms_parameter": f"/{self.name}/feedback",
            "tenant_file_s3": f"s3://{self.name}-documents/clinic.toml",
            "tenants_dir": str(self.folder),
            "metrics_service": "test",
        }
        return partial(called_once, entry_of("move_feedback", MovingSettings, given | changed, monkeypatch))

    async def events(self) -> list[FeedbackEvent]:
        now = self.now()
        return [each async for each in self.feedback.read(now - timedelta(days=1), now + timedelta(days=1))]

    async def file_says(self, more: str) -> None:
        """Put the tenant file with these lines at its end."""
        async with open_client("s3", region=REGION, endpoint_url=self.aws_url) as s3:
            body = f"{TENANT_FILE}\n{more}".encode()
            await s3.put_object(Bucket=f"{self.name}-documents", Key="clinic.toml", Body=body)

    def now(self) -> Any:
        from assistant.domain.clock import SystemClock

        return SystemClock().now()


@pytest.fixture
async def deployed(aws_server_url: str, tmp_path: Path) -> AsyncIterator[Deployed]:
    name = f"m{uuid.uuid4().hex[:12]}"
    async with AsyncExitStack() as stack:
        services = ("s3", "dynamodb", "ssm", "kms")
        s3, dynamodb, ssm, kms = [
            await stack.enter_async_context(open_client(each, region=REGION, endpoint_url=aws_server_url))
            for each in services
        ]
        key_id = await create_key(kms, alias=name)
        for kind in ("documents", "labels", "texts"):
            await create_documents_bucket(s3, bucket=f"{name}-{kind}", kms_key_id=key_id)
        await s3.put_object(Bucket=f"{name}-documents", Key="clinic.toml", Body=TENANT_FILE.encode())
        for definition in (RECORDS, EVENTS, STATES, DESK):
            await create_table(dynamodb, definition, name=f"{name}-{definition.role}")
        await create_link_secret(
            ssm=ssm,
            kms=kms,
            name=f"/{name}/feedback",
            tenant="clinic",
            key_id=key_id,
            purpose=FEEDBACK_SECRET_PURPOSE,
        )
        tables = [DynamoDbTable(dynamodb, name=f"{name}-{kind}") for kind in ("records", "events", "desk")]
        for table in tables:
            stack.push_async_callback(table.close)
        records, outbox = StoredRecords(tables[0]), StoredOutbox(tables[0])
        keys, desk = StoredErasureKeys(tables[1]), StoredDesk(tables[2])
        files = S3Blobs.of(FEEDBACK_FILES, s3, bucket=f"{name}-labels", beside={TEXTS: f"{name}-texts"})
        feedback = StoredFeedback(files, tenant="clinic", keys=keys)
        yield Deployed(name, aws_server_url, tmp_path, key_id, records, outbox, feedback, desk)


async def test_signals_are_moved_once_and_the_age_of_the_oldest_is_emitted(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    await deployed.records.put_answer(samples.answer())
    await deployed.records.append_verdict("a1", BAD, agent="ana")
    await deployed.records.put_answer(unanswered("a2"))
    move = deployed.function(monkeypatch)

    assert await move(SCHEDULED) == {"rows": 2}
    capsys.readouterr()
    assert await move(SCHEDULED) == {"rows": 0}
    assert '"OldestSignalAge":[0.0]' in capsys.readouterr().out

    (event,) = await deployed.events()
    (text,) = (await deployed.feedback.texts([event.text_id or ""])).values()
    assert text.subjects == ("tenant:clinic",)
    assert (event.kind, event.answer_id, event.tenant) == (FeedbackKind.VERDICT, "a1", "clinic")
    assert await deployed.outbox.pending() == []
    assert [stored.verdict for stored in await deployed.records.list_verdicts()] == [BAD]
    reasons = [Case.model_validate_json(item.body).reason for item in await deployed.desk.list(DeskKind.CASE)]
    assert set(reasons) == {CaseReason.BAD_VERDICT, CaseReason.UNANSWERED}


async def test_under_hipaa_two_people_order_an_erasure(
    deployed: Deployed, monkeypatch: pytest.MonkeyPatch
) -> None:
    await deployed.file_says("[review]\ntwo_people = true\n")
    order = deployed.function(monkeypatch)
    first, again, nobody = [await order({"erase_member": "M-4711", "by": by}) for by in ("olaf", "olaf", "")]
    codes = [one["code"] for one in (first, again, nobody)]
    assert codes == ["second_person_needed", "forbidden", "invalid_request"]
    assert "4711" not in str((first, again))
    told = await order({"erase_member": "m 4711", "by": "otto"})
    assert told["code"] == "second_person_needed"
    contents = re.findall("[0-9a-f]{64}", told["detail"])[-1]
    receipt = await order({"erase_member": "m 4711", "by": "otto", "contents": contents})
    assert (receipt["had_key"], receipt["texts"]) == (False, ())
