"""The whole round on the emulator of AWS: marks, events, a set, a training job."""
# pyright: basic

from __future__ import annotations

import json

import pytest

from assistant.documents.parsing import parse_document
from assistant.domain.answers import Verdict, VerdictLabel
from assistant.domain.documents import DocumentState
from assistant.options.models_lab.make_sets import prepare
from assistant.stores.documents import StoredStates
from assistant.stores.dynamodb_table import DynamoDbTable
from assistant.tenant.deployed_names import SETS_RUN
from tests.contracts import samples
from tests.emulated_aws import documents_in
from tests.node.learning_round.conftest import LearningDeployment
from tests.options.desk.moving import QUOTE, answered

PATIENT = "Marguerite Oyelaran"
CANARIES = ("Marguerite", "Oyelaran", "4711-2208", "555-0132")
EDIT = f"Take 5 mg twice a day, Mrs. {PATIENT}. Do not take it with alcohol. Call 415-555-0132."
QUESTION = f"How does {PATIENT}, member M-4711-2208, take it?"
GOOD = Verdict(verdict_id="v1", label=VerdictLabel.GOOD)
EDITED = Verdict(verdict_id="v2", label=VerdictLabel.BAD, better_text=EDIT)


async def mark(deployment: LearningDeployment) -> None:
    """Let agents mark two answers about a live document, one of them with a better text."""
    clients = deployment.aws.clients
    documents = documents_in(clients["s3"], bucket=deployment.named("documents"))
    states_table = DynamoDbTable(clients["dynamodb"], name=deployment.named("states"))
    states = StoredStates(states_table)
    for name in ("refill", "claims"):
        document = samples.document(name, content=QUOTE)
        await documents.put(document)
        await documents.put_parsed(name, "hash", parse_document(document))
        await states.put_many([samples.status(name, state=DocumentState.LIVE, content_hash="hash")])
    await states_table.close()
    await deployment.records.put_answer(answered("a1"))
    await deployment.records.append_verdict("a1", GOOD, agent="ana")
    await deployment.records.put_answer(answered("a2", question=QUESTION))
    await deployment.records.append_verdict("a2", EDITED, agent="ben")


async def make_set(deployment: LearningDeployment, capsys: pytest.CaptureFixture[str]) -> str:
    """Move the marks, run the scheduled task, and return the set's folder below ``sets/``."""
    await mark(deployment)
    assert (await deployment.move())["rows"] == 2
    deployment.set_task()
    capsys.readouterr()
    assert await prepare()
    assert metric(capsys.readouterr().out) == 1.0
    files = await deployment.files(deployment.bucket("training"))
    (folder,) = {name.split("/")[1] for name in files if name.startswith("sets/")}
    return f"{folder}/"


def metric(printed: str) -> float:
    (line,) = [
        json.loads(line) for line in printed.splitlines() if f'"{SETS_RUN}"' in line and "_aws" in line
    ]
    return float(line[SETS_RUN][0])


async def test_marks_become_a_set_that_holds_nothing_of_the_patient(
    deployment: LearningDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = await make_set(deployment, capsys)
    table = await deployment.aws.clients["dynamodb"].scan(TableName=deployment.named("records"))
    assert all(canary in str(table["Items"]) for canary in CANARIES), "the service's records have the words"

    files = await deployment.files(f"{deployment.bucket('training')}sets/{folder}")
    rows = [
        json.loads(line) for name in files if name.startswith("sft.") for line in files[name].splitlines()
    ]
    assert len(rows) == 2
    assert any("Take 5 mg twice a day, Mrs. <PERSON>." in json.dumps(row, ensure_ascii=False) for row in rows)
    preferences = [
        line for name in files if name.startswith("preference.") for line in files[name].splitlines()
    ]
    assert len(preferences) == 1, "the draft that the better text replaced is the rejected one"
    assert {"manifest.json", "card.md"} <= files.keys()

    for bucket in ("training", "labels", "texts"):
        for name, content in (await deployment.files(deployment.bucket(bucket))).items():
            assert not [one for one in CANARIES if one.encode() in content], f"{bucket}/{name}"


async def test_a_window_without_marks_is_a_good_run_without_a_set(
    deployment: LearningDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    deployment.set_task()
    assert await prepare()
    assert metric(capsys.readouterr().out) == 1.0
    assert await deployment.files(deployment.bucket("training")) == {}


async def test_a_run_that_reaches_no_bucket_fails_and_says_so_in_its_metric(
    deployment: LearningDeployment, capsys: pytest.CaptureFixture[str]
) -> None:
    await mark(deployment)
    await deployment.move()
    deployment.set_task()
    deployment.monkeypatch.setenv("ASSISTANT_SETS_SETS_S3", f"s3://{deployment.named('gone')}/sets/")
    assert not await prepare()
    assert metric(capsys.readouterr().out) == 0.0
