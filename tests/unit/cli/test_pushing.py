"""``assistant knowledge push``: what it puts as which role, and what it says of each file."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from botocore.client import BaseClient
from typer.testing import CliRunner, Result

from assistant.cli.main import app
from assistant.documents.uploads import pushed_result
from assistant.domain.documents import UploadRefusal, UploadResult
from assistant.domain.errors import AssistantError
from assistant.terminal.account import AwsAccount
from tests.stage.tenant_files import TENANTS, committed_tenant

ACCOUNT, BUCKET, ROLE = "111122223333", "inbox-of-the-test", "assistant/pharmacy/pharmacy.procedures"
pytestmark = pytest.mark.usefixtures("emulated_aws")


@pytest.fixture
def account(monkeypatch: pytest.MonkeyPatch) -> AwsAccount:
    """The tenant's account with its inbox, and which roles were assumed."""
    monkeypatch.setattr("assistant.terminal.publishing._POLL_S", 0.0)
    account = AwsAccount(account=ACCOUNT, region="us-east-1").as_role(f"arn:aws:iam::{ACCOUNT}:role/deploys")
    account.put_parameter("/assistant/pharmacy/inbox", value=BUCKET)
    s3 = account.client("s3")
    s3.create_bucket(Bucket=BUCKET)
    s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    return account


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "knowledge"
    (folder / "returns").mkdir(parents=True)
    (folder / "refill.md").write_text("# Refill\n\nFrom day 24 on.\n")
    (folder / "returns/late.md").write_text("# Late\n\nAfter 30 days.\n")
    (folder / "notes.bin").write_bytes(b"\0")
    return folder


def push(folder: Path, *more: str, tenants: Path | None = None) -> Result:
    places = ["--tenants", str(tenants or TENANTS)]
    return CliRunner().invoke(
        app, [*places, *more[:1], "knowledge", "push", "--tenant", "pharmacy", *more[1:], str(folder)]
    )


def keys(account: AwsAccount) -> set[str]:
    return {each["Key"] for each in account.client("s3").list_objects_v2(Bucket=BUCKET).get("Contents", [])}


@pytest.fixture
def reading(account: AwsAccount) -> Iterator[Callable[[Mapping[str, UploadResult]], None]]:
    """Start what reads each file of the inbox once, and keeps its result."""
    over, threads = threading.Event(), list[threading.Thread]()
    s3 = account.client("s3")

    def read(results: Mapping[str, UploadResult]) -> None:
        while not over.wait(0.01):
            for each in s3.list_object_versions(Bucket=BUCKET).get("Versions", []):
                place = pushed_result(each["Key"], each["VersionId"])
                if each["Key"] in results and place is not None:
                    s3.put_object(
                        Bucket=BUCKET, Key=place, Body=results[each["Key"]].model_dump_json().encode()
                    )

    def start(results: Mapping[str, UploadResult]) -> None:
        threads.append(threading.Thread(target=read, args=(results,)))
        threads[-1].start()

    yield start
    over.set()
    for thread in threads:
        thread.join()


def test_files_are_put_by_the_source_s_role_and_each_is_told_of(
    account: AwsAccount, folder: Path, reading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    assumed: list[str] = []
    call = BaseClient._make_api_call  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType, reportUnknownVariableType]

    def seen(client: Any, action: str, given: dict[str, Any]) -> Any:
        assumed.extend([given["RoleArn"]] if action == "AssumeRole" else [])
        return call(client, action, given)  # pyright: ignore[reportUnknownVariableType]

    monkeypatch.setattr(BaseClient, "_make_api_call", seen)
    reading(
        {"procedures/refill.md": UploadResult(added=1), "procedures/returns/late.md": UploadResult(changed=1)}
    )
    done = push(folder, "--json", "--source", "procedures")

    assert done.exit_code == 0, done.output
    assert assumed == [f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"]
    said = json.loads(done.stdout)
    assert (said["files"], said["counts"]["added"], said["counts"]["changed"]) == (2, 1, 1)
    assert said["skipped"] == ["notes.bin"]
    put = {key for key in keys(account) if not key.startswith(".uploads/")}
    assert put == {"procedures/refill.md", "procedures/returns/late.md"}


def test_what_is_refused_or_not_yet_read_is_named_and_fails(
    account: AwsAccount, folder: Path, reading: Any
) -> None:
    refusal = UploadRefusal(origin="refill.md", code="document_invalid", reason="it has no text")
    reading({"procedures/refill.md": UploadResult(refused=1, refusals=(refusal,))})
    done = push(folder, "--json", "--wait", "0.02")

    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert said["refusals"] == ["refill.md: it has no text (document_invalid)"]
    assert said["unread"] == ["procedures/returns/late.md"]


def test_the_result_of_an_earlier_push_of_the_same_file_counts_for_no_later_one(
    account: AwsAccount, folder: Path
) -> None:
    (folder / "returns/late.md").unlink()
    s3 = account.client("s3")
    before = s3.put_object(Bucket=BUCKET, Key="procedures/refill.md", Body=b"x")["VersionId"]
    place = pushed_result("procedures/refill.md", before)
    s3.put_object(Bucket=BUCKET, Key=place, Body=UploadResult(added=1).model_dump_json().encode())
    done = push(folder, "--json", "--wait", "0")

    assert json.loads(done.stdout)["unread"] == ["procedures/refill.md"]


def test_a_link_out_of_the_folder_is_refused_and_not_followed(account: AwsAccount, folder: Path) -> None:
    (folder.parent / "secret.md").write_text("# Secret\n")
    (folder / "link.md").symlink_to(folder.parent / "secret.md")
    done = push(folder, "--json", "--wait", "0")

    (refused,) = json.loads(done.stdout)["refusals"]
    assert "link.md" in refused
    assert "procedures/link.md" not in keys(account)


def test_a_source_without_pushers_is_refused_before_anything_is_put(
    account: AwsAccount, folder: Path, tmp_path: Path
) -> None:
    tenants = tmp_path / "tenants"
    tenants.mkdir()
    text = committed_tenant("pharmacy").splitlines()
    (tenants / "pharmacy.toml").write_text("\n".join(line for line in text if not line.startswith("pushers")))
    done = push(folder, "--json", tenants=tenants)

    assert isinstance(done.exception, AssistantError)
    assert "deployment.pushers" in done.exception.message
    assert keys(account) == set()
