"""``assistant learn erase`` destroys one patient's key and lists the texts that are lost; who writes sets."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from assistant.cli.learn import app
from assistant.domain.answers import Sent
from assistant.domain.documents import contents_digest
from assistant.domain.errors import (
    ContentsChangedError,
    ForbiddenError,
    InvalidRequestError,
    SecondPersonNeededError,
)
from assistant.options.desk.feedback_store import unseal_all
from assistant.options.desk.mover import OUTBOX, MoveFeedback, MoverStores
from assistant.options.desk.opened import local_signals
from assistant.options.models_lab.training_sets import Export
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.terminal import GlobalOptions
from tests.options.desk.moving import Desk, MemberNumbers, Texts, answered, feedback_of
from tests.stage.tenant_stores import tenant_stores

SENT = (Sent(send_id="s1", text="M-77 may come."), Sent(send_id="s2", text="M-88 may come."))


@pytest.fixture
def options(tmp_path: Path) -> GlobalOptions:
    tenants = tmp_path / "tenants"
    tenants.mkdir()
    (tenants / "clinic.toml").write_text('schema_version = 1\nname = "clinic"\ndisplay_name = "Clinic"\n')
    return GlobalOptions(tenants_dir=tenants, state_dir=tmp_path / "state", port=None, json=True)


async def with_two_patients(options: GlobalOptions) -> None:
    tenant = options.tenant("clinic")
    stores = tenant_stores(tenant, state_dir=options.state_dir)
    signals = local_signals(tenant, tenants_dir=options.tenants_dir, state_dir=options.state_dir)
    moved = MoverStores(
        outbox=stores.get(OUTBOX),
        records=stores.records,
        texts=Texts(),
        keys=stores.erasure_keys,
        feedback=feedback_of(stores),
        open_cases=Desk().take,
        patients=MemberNumbers(),
    )
    await stores.records.put_answer(answered())
    for sent in SENT:
        await stores.records.append_sent("a1", sent, agent="ana")
    assert await MoveFeedback(moved, signals=signals)() == 2
    await stores.close()


async def readable(options: GlobalOptions, tenant: TenantConfig) -> list[str | None]:
    stores = tenant_stores(tenant, state_dir=options.state_dir)
    feedback = feedback_of(stores)
    texts = await feedback.texts(await feedback.texts_about("document:refill"))
    words = await unseal_all(texts.values(), stores.erasure_keys)
    await stores.close()
    return [each.sent for each in words.values()]


def erase(options: GlobalOptions, member: str, *more: str) -> Result:
    return CliRunner().invoke(app, ["erase", "--tenant", "clinic", "--member", member, *more], obj=options)


def test_one_patient_s_words_are_lost_and_the_other_s_stay(options: GlobalOptions) -> None:
    asyncio.run(with_two_patients(options))
    receipt = json.loads(erase(options, "m 77").stdout)
    assert receipt["had_key"] is True
    assert len(receipt["texts"]) == 1
    assert set(receipt) == {"subject", "had_key", "texts"}
    assert asyncio.run(readable(options, options.tenant("clinic"))) == ["<MEMBER_NUMBER> may come."]
    assert json.loads(erase(options, "M-77").stdout) == receipt | {"had_key": False}


def test_an_unknown_patient_has_nothing_to_erase(options: GlobalOptions) -> None:
    receipt = json.loads(erase(options, "M-99").stdout)
    assert (receipt["had_key"], receipt["texts"]) == (False, [])
    assert "No words were kept" in erase(replace(options, json=False), "M-99").stdout


def test_under_hipaa_two_people_give_the_command(
    options: GlobalOptions, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = options.tenants_dir / "clinic.toml"
    file.write_text(f"{file.read_text()}[review]\ntwo_people = true\n")
    asyncio.run(with_two_patients(options))
    for uid, refusal in ((501, SecondPersonNeededError), (501, ForbiddenError)):
        monkeypatch.setattr(os, "getuid", lambda uid=uid: uid)
        assert isinstance(erase(options, "M-77").exception, refusal)
    assert len(asyncio.run(readable(options, options.tenant("clinic")))) == 2
    monkeypatch.setattr(os, "getuid", lambda: 502)
    told = erase(options, "M-77").exception
    assert isinstance(told, SecondPersonNeededError)
    assert "1 texts" in told.message
    assert isinstance(erase(options, "M-77", "--contents", "0" * 64).exception, ContentsChangedError)
    named = ("--contents", re.findall("[0-9a-f]{64}", told.message)[-1])
    assert json.loads(erase(options, "M-77", *named).stdout)["had_key"] is True


def test_under_hipaa_two_people_write_training_sets(
    options: GlobalOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asyncio.run(with_two_patients(options))

    def export(*more: str) -> type[BaseException | None]:
        command = ["export", "--tenant", "clinic", "--out", str(tmp_path / "sets"), *more]
        return type(CliRunner().invoke(app, command, obj=options).exception)

    assert export() is InvalidRequestError, "the marks here make no example"
    sets = {"sft.train.jsonl": b"{}"}

    async def training_sets(*_: object) -> Export:
        return Export(
            tenant="clinic",
            content=dict(sets),
            manifest={},
            rows=[("train", "1", "0", "1")],
            left_out={},
            told={},
        )

    monkeypatch.setattr("assistant.options.models_lab.opened.training_sets", training_sets)
    monkeypatch.setattr(Export, "_card", lambda *_: b"")
    file = options.tenants_dir / "clinic.toml"
    file.write_text(f"{file.read_text()}[review]\ntwo_people = true\n")
    monkeypatch.setattr(os, "getuid", lambda: 501)
    assert [export(), export()] == [SecondPersonNeededError, ForbiddenError]
    monkeypatch.setattr(os, "getuid", lambda: 502)
    assert export() is SecondPersonNeededError
    digest = hashlib.sha256(sets["sft.train.jsonl"]).hexdigest()
    contents = contents_digest({"sft.train.jsonl": digest})
    sets["dpo.train.jsonl"] = b"{}"
    assert export("--contents", contents) is ContentsChangedError
    del sets["dpo.train.jsonl"]
    assert not list(tmp_path.glob("sets/*"))
    assert export("--contents", contents) not in (SecondPersonNeededError, ContentsChangedError)
    assert list(tmp_path.glob("sets/*"))
