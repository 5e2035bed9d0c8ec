"""Publishing images: built once, one digest in every account and in the lock. Docker is a stand-in."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import boto3
import pytest
from moto import mock_aws

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.operations.deployment.images import Publication, Registry
from assistant.operations.terminal import Terminal
from assistant.settings import load_images

DIGEST = f"sha256:{'5' * 64}"
BASE = f"docker.io/library/python:3.13@sha256:{'b' * 64}"
LOCK = """# The lock.
[images.orchestrator]
repository = "care/orchestrator"
tag = "0.1.0"

[images.collector]
# Copied as it is.
repository = "care/collector"
tag = "v1"
source = "public.example/collector:v1"

[images.llm]
repository = "vllm"
tag = "1.0"
registry = "aws"

[registries.aws]
us-east-1 = "999988887777"
"""
DOCKER = """#!/usr/bin/env python3
import json, os, sys
args = sys.argv[1:]
with open(os.environ["DOCKER_LOG"], "a") as log:
    stdin = sys.stdin.read() if "--password-stdin" in args else ""
    log.write(json.dumps({"args": args, "stdin": stdin}) + "\\n")
if "--metadata-file" in args:
    with open(args[args.index("--metadata-file") + 1], "w") as file:
        json.dump({"containerimage.digest": os.environ["DOCKER_DIGEST"]}, file)
if args[:3] == ["buildx", "imagetools", "inspect"]:
    print(os.environ.get("DOCKER_INSPECTED", os.environ["DOCKER_DIGEST"]))
sys.exit(int(os.environ.get("DOCKER_STATUS", "0")))
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    (tmp_path / "containers/orchestrator").mkdir(parents=True)
    (tmp_path / "containers/orchestrator/Dockerfile").write_text("FROM x\n")
    (tmp_path / "containers/base-image.lock").write_text(f"# base\n{BASE}\n")
    (tmp_path / "images.lock.toml").write_text(LOCK)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(tmp_path / "docker.log"))
    monkeypatch.setenv("DOCKER_DIGEST", DIGEST)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return tmp_path


def publication(clone: Path) -> Publication:
    return Publication(root=clone, lock_file=clone / "images.lock.toml", terminal=Terminal())


def calls(clone: Path) -> list[list[str]]:
    return [json.loads(line)["args"] for line in (clone / "docker.log").read_text().splitlines()]


FIRST, SECOND = Registry.parse("111122223333/us-east-1"), Registry.parse("444455556666/eu-central-1")
HERE = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
THERE = "444455556666.dkr.ecr.eu-central-1.amazonaws.com"


@mock_aws
def test_an_image_is_built_once_and_copied_by_its_digest(clone: Path) -> None:
    publication(clone).publish([FIRST, SECOND], only=["orchestrator"])
    builds = [call for call in calls(clone) if call[:2] == ["buildx", "build"]]
    assert len(builds) == 1
    assert f"{HERE}/care/orchestrator:0.1.0" in builds[0]
    assert f"PYTHON_IMAGE={BASE}" in builds[0]
    assert [
        "buildx",
        "imagetools",
        "create",
        "--tag",
        f"{THERE}/care/orchestrator:0.1.0",
        f"{HERE}/care/orchestrator@{DIGEST}",
    ] in calls(clone)


@mock_aws
def test_the_lock_gets_the_digest_and_keeps_its_comments(clone: Path) -> None:
    publication(clone).publish([FIRST])
    written = (clone / "images.lock.toml").read_text()
    lock = load_images(clone / "images.lock.toml")
    assert {name: image.digest for name, image in lock.images.items()} == {
        "orchestrator": DIGEST,
        "collector": DIGEST,
        "llm": None,
    }
    assert "# The lock." in written
    assert "# Copied as it is." in written


@mock_aws
def test_an_image_of_others_is_copied_and_not_built(clone: Path) -> None:
    publication(clone).publish([FIRST], only=["collector"])
    assert [
        "buildx",
        "imagetools",
        "create",
        "--tag",
        f"{HERE}/care/collector:v1",
        "public.example/collector:v1",
    ] in (calls(clone))
    assert not [call for call in calls(clone) if call[:2] == ["buildx", "build"]]


@mock_aws
def test_the_password_goes_by_standard_input_alone(clone: Path) -> None:
    publication(clone).publish([FIRST], only=["orchestrator"])
    first = json.loads((clone / "docker.log").read_text().splitlines()[0])
    token = boto3.client("ecr", region_name="us-east-1").get_authorization_token(registryIds=["111122223333"])
    password = base64.b64decode(token["authorizationData"][0]["authorizationToken"]).decode().split(":")[1]
    assert first["args"] == ["login", "--username", "AWS", "--password-stdin", HERE]
    assert first["stdin"] == password
    assert password not in " ".join(part for call in calls(clone) for part in call)


@mock_aws
def test_a_copy_that_differs_is_an_error_and_nothing_is_locked(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_INSPECTED", f"sha256:{'6' * 64}")
    with pytest.raises(DeploymentError, match="the copy in 444455556666 is sha256:6"):
        publication(clone).publish([FIRST, SECOND], only=["orchestrator"])
    assert (clone / "images.lock.toml").read_text() == LOCK


@mock_aws
def test_docker_s_failure_ends_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_STATUS", "3")
    with pytest.raises(DeploymentError, match=r"docker login .* ended with 3"):
        publication(clone).publish([FIRST])
    assert (clone / "images.lock.toml").read_text() == LOCK


@mock_aws
def test_an_image_of_aws_is_locked_by_what_its_registry_says(clone: Path) -> None:
    publication(clone).lock("llm", region="us-east-1")
    assert load_images(clone / "images.lock.toml").image("llm").digest == DIGEST
    assert calls(clone)[-1][3] == "999988887777.dkr.ecr.us-east-1.amazonaws.com/vllm:1.0"


@mock_aws
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("base", "base-image.lock holds no digest yet"),
        ("dockerfile", "neither this file nor a source"),
        ("docker", "There is no docker here"),
    ],
)
def test_what_is_missing_is_said(
    clone: Path, monkeypatch: pytest.MonkeyPatch, change: str, says: str
) -> None:
    match change:
        case "base":
            (clone / "containers/base-image.lock").write_text("docker.io/library/python:3.13\n")
        case "dockerfile":
            (clone / "containers/orchestrator/Dockerfile").unlink()
        case _:
            monkeypatch.setenv("PATH", str(clone / "nothing"))
    with pytest.raises(ConfigurationError, match=says):
        publication(clone).publish([FIRST], only=["orchestrator"])


@pytest.mark.parametrize("text", ["111122223333", "1111/us-east-1", "us-east-1/111122223333", ""])
def test_a_registry_is_named_by_account_and_region(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ACCOUNT/REGION"):
        Registry.parse(text)


def test_an_image_that_is_not_ours_is_not_published(clone: Path) -> None:
    with pytest.raises(
        ConfigurationError, match="llm: not an image of ours; there are orchestrator, collector"
    ):
        publication(clone).publish([], only=["llm"])
