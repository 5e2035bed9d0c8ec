"""The deployed function learns a release from the labels bucket, and puts it on the desk."""

from __future__ import annotations

import asyncio
import fnmatch
import json
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from assistant.aws.clients import open_client
from assistant.aws.dynamodb_desk import DynamoDbDeskStore
from assistant.aws.dynamodb_feedback import DynamoDbErasureKeys
from assistant.aws.s3 import S3FeedbackFiles
from assistant.domain.clock import SystemClock
from assistant.domain.desk import DeskKind, RankerRelease, ReleaseState
from assistant.domain.errors import ConfigurationError
from assistant.learning.feedback_store import StoredFeedback
from assistant.settings import deployed_names
from assistant.settings.deployed_names import DESK, EVENTS, RELEASES, desk_partitions
from assistant.settings.process import LearningSettings
from tests.emulated_aws import create_documents_bucket, create_table
from tests.fakes.aws_server import REGION
from tests.fakes.lambda_events import Context
from tests.fakes.synthetic_feedback import DAY, START, World, feedback
from tests.node.lambdas.deployment import entry_of
from tests.unit.tuning.test_gate import protected_set

QUESTIONS = "evaluation/ranking.json"


@dataclass
class Tenant:
    """What the function finds on AWS."""

    s3: Any
    dynamodb: Any
    name: str
    function: Any

    async def put_questions(self) -> None:
        content = protected_set(by_title=True).model_dump_json().encode()
        await self.s3.put_object(Bucket=f"{self.name}-models", Key=QUESTIONS, Body=content)

    async def act(self, answers: int) -> None:
        """Let agents judge answers of the last ten days, so that titles should count more."""
        keys = DynamoDbErasureKeys(self.dynamodb, table=f"{self.name}-events")
        files = S3FeedbackFiles(self.s3, bucket=f"{self.name}-labels")
        store = StoredFeedback(files, tenant="pharmacy", keys=keys)
        later = SystemClock().now() - 12 * DAY - START
        events = [
            event.model_copy(update={"at": event.at + later, "asked_at": event.asked_at + later})
            for event in feedback(answers, World(change={"title_cosine": 0.6}))
        ]
        for start in range(0, len(events), 500):
            await store.append(events[start : start + 500], [])
        await keys.close()

    async def call(self) -> None:
        await asyncio.to_thread(self.function, {}, Context())

    async def written(self) -> set[str]:
        """Return the partitions of the desk's table that have items, as the policy's pattern for each; one
        that no pattern allows stands for itself."""
        found = await self.dynamodb.scan(TableName=f"{self.name}-desk")
        names = {item["pk"]["S"] for item in found["Items"]}
        allowed = desk_partitions(RELEASES)
        return {next((one for one in allowed if fnmatch.fnmatchcase(name, one)), name) for name in names}

    async def releases(self) -> list[RankerRelease]:
        desk = DynamoDbDeskStore(self.dynamodb, table=f"{self.name}-desk")
        items = await desk.list(DeskKind.RANKER_RELEASE)
        await desk.close()
        return [RankerRelease.model_validate_json(item.body) for item in items]


@pytest.fixture
async def tenant(aws_server_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Tenant]:
    name = f"t-{uuid.uuid4().hex[:12]}"
    given = {
        "region": REGION,
        "aws_endpoint_url": aws_server_url,
        "tenant": "pharmacy",
        "labels_bucket": f"{name}-labels",
        "events_table": f"{name}-events",
        "desk_table": f"{name}-desk",
        "protected_questions_s3": f"s3://{name}-models/{QUESTIONS}",
        "metrics_service": "assistant-pharmacy",
    }
    function = entry_of("learn_ranking", LearningSettings, given, monkeypatch)
    async with (
        open_client("s3", region=REGION, endpoint_url=aws_server_url) as s3,
        open_client("dynamodb", region=REGION, endpoint_url=aws_server_url) as dynamodb,
    ):
        for bucket in ("labels", "models"):
            await create_documents_bucket(s3, bucket=f"{name}-{bucket}")
        for definition in (EVENTS, DESK):
            await create_table(dynamodb, definition, name=f"{name}-{definition.role}")
        yield Tenant(s3, dynamodb, name, function)
        await asyncio.to_thread(function.close)


def metrics(printed: str) -> dict[str, float]:
    """Return the metrics of the lines that the function printed (EMF)."""
    lines = [json.loads(line) for line in printed.splitlines() if line.startswith("{")]
    return {
        name: line[name][0]
        for line in lines
        if "_aws" in line
        for name in (deployed_names.RANKING_REFUSED,)
        if name in line
    }


async def test_labels_become_a_release_on_trial(tenant: Tenant, capsys: pytest.CaptureFixture[str]) -> None:
    await tenant.put_questions()
    await tenant.act(800)
    await tenant.call()
    (release,) = await tenant.releases()
    assert (release.state, release.signals) == (ReleaseState.TRIAL, 800)
    assert metrics(capsys.readouterr().out) == {deployed_names.RANKING_REFUSED: 0.0}
    assert await tenant.written() <= set(desk_partitions(RELEASES)), "the role's policy allows these"
    await tenant.call()
    assert len(await tenant.releases()) == 1, "a running trial is left alone"


async def test_without_labels_nothing_is_stored(tenant: Tenant) -> None:
    await tenant.put_questions()
    await tenant.call()
    assert await tenant.releases() == []


async def test_missing_questions_are_an_error_that_names_them(tenant: Tenant) -> None:
    with pytest.raises(ConfigurationError, match=r"evaluation/ranking\.json.*assistant learn questions"):
        await tenant.call()
