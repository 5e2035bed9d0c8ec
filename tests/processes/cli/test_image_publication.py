"""Publishing images: built once, one digest in every account and in the lock. Docker is a stand-in."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from assistant.cli.publishing import Platform, Publication, Registry
from assistant.cli.signatures import Cosign
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.model_artifacts import load_images, write_digest

FIRST, SECOND = Registry.parse("111122223333/us-east-1"), Registry.parse("444455556666/eu-central-1")
HERE = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
THERE = "444455556666.dkr.ecr.eu-central-1.amazonaws.com"
DIGEST = f"sha256:{'5' * 64}"
OTHER = f"sha256:{'7' * 64}"
BASE = f"docker.io/library/python:3.13@sha256:{'b' * 64}"
LOCK = """# The lock.
[images.orchestrator]
repository = "care/orchestrator"
tag = "0.1.0"

[images.model_server]
repository = "care/model-server"
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
import hashlib, json, os, sys
args = sys.argv[1:]
with open(os.environ["DOCKER_LOG"], "a") as log:
    stdin = sys.stdin.read() if "--password-stdin" in args else ""
    log.write(json.dumps({"args": args, "stdin": stdin}) + "\\n")
if args[:2] == ["buildx", "build"]:
    if "--platform" not in args or "--provenance=false" not in args:
        sys.exit("the build machine's platform, or an index around the image")
    with open(args[args.index("--metadata-file") + 1], "w") as file:
        json.dump({"containerimage.digest": os.environ["DOCKER_DIGEST"]}, file)
digest = os.environ["DOCKER_DIGEST"]
if args[:3] == ["buildx", "imagetools", "create"]:
    wrapped = "--prefer-index=false" not in args  # an index around the image, as buildx does by default
    place = args[args.index("--tag") + 1]
    with open(os.environ["DOCKER_LOG"] + ".registry", "a") as file:
        index = "sha256:" + hashlib.sha256(digest.encode()).hexdigest()
        file.write(f"{place} {index if wrapped else digest}\\n")
if args[:3] == ["buildx", "imagetools", "inspect"]:
    try:
        with open(os.environ["DOCKER_LOG"] + ".registry") as file:
            there = dict(line.split() for line in file)
    except FileNotFoundError:
        there = {}
    print(os.environ.get("DOCKER_INSPECTED", there.get(args[3], digest)))
sys.exit(int(os.environ.get("DOCKER_STATUS", "0")))
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "bin").mkdir()
    docker = tmp_path / "bin" / "docker"
    docker.write_text(DOCKER)
    docker.chmod(0o755)
    for name in ("orchestrator", "model_server"):
        (tmp_path / "containers" / name).mkdir(parents=True)
        (tmp_path / "containers" / name / "Dockerfile").write_text("FROM x\n")
    (tmp_path / "containers/base-image.lock").write_text(f"# base\n{BASE}\n")
    (tmp_path / "images.lock.toml").write_text(LOCK)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(tmp_path / "docker.log"))
    monkeypatch.setenv("DOCKER_DIGEST", DIGEST)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return tmp_path


@pytest.fixture(autouse=True)
def registries(clone: Path) -> Iterator[None]:
    """Both accounts with the repositories that the account stage makes."""
    with mock_aws():
        for registry in (FIRST, SECOND):
            client = ecr(registry)
            for image in load_images(clone / "images.lock.toml").own().values():
                client.create_repository(
                    repositoryName=image.repository,
                    registryId=registry.account,
                    imageTagMutability="IMMUTABLE",
                )
        yield


def ecr(registry: Registry) -> Any:
    return boto3.client("ecr", region_name=registry.region)


def pushed(registry: Registry, repository: str, tag: str, *, digest: str = DIGEST) -> str:
    """Put an image into a registry, and return its digest."""
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    put = ecr(registry).put_image(
        registryId=registry.account,
        repositoryName=repository,
        imageTag=tag,
        imageDigest=digest,
        imageManifest=json.dumps(manifest),
    )
    return str(put["image"]["imageId"]["imageDigest"])


def publication(
    clone: Path, *, platform: Platform = "linux/amd64", signer: Cosign | None = None
) -> Publication:
    return Publication(
        root=clone,
        lock_file=clone / "images.lock.toml",
        terminal=Terminal(),
        platform=platform,
        signer=signer,
    )


def calls(clone: Path) -> list[list[str]]:
    return [json.loads(line)["args"] for line in (clone / "docker.log").read_text().splitlines()]


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
        "--prefer-index=false",
        "--tag",
        f"{THERE}/care/orchestrator:0.1.0",
        f"{HERE}/care/orchestrator@{DIGEST}",
    ] in calls(clone)


def test_the_lock_gets_the_digest_and_keeps_its_comments(clone: Path) -> None:
    publication(clone).publish([FIRST])
    written = (clone / "images.lock.toml").read_text()
    lock = load_images(clone / "images.lock.toml")
    assert {name: image.digest for name, image in lock.images.items()} == {
        "orchestrator": DIGEST,
        "model_server": DIGEST,
        "collector": DIGEST,
        "llm": None,
    }
    assert "# The lock." in written
    assert "# Copied as it is." in written


def builds(clone: Path) -> list[list[str]]:
    return [call for call in calls(clone) if call[:2] == ["buildx", "build"]]


def platform_of(build: list[str]) -> str:
    return build[build.index("--platform") + 1]


def test_tasks_run_on_what_is_asked_for_and_endpoints_on_x86(clone: Path) -> None:
    publication(clone, platform="linux/arm64").publish([FIRST], only=["orchestrator", "model_server"])
    assert [platform_of(build) for build in builds(clone)] == ["linux/arm64", "linux/amd64"]


def test_the_corpus_job_is_built_when_it_is_named_on_its_own_base_for_arm(clone: Path) -> None:
    own = f"public.example/spark:emr@sha256:{'c' * 64}"
    (clone / "containers/corpus_job").mkdir()
    (clone / "containers/corpus_job/Dockerfile").write_text("FROM scratch\n")
    (clone / "containers/corpus_job/base-image.lock").write_text(f"# Spark\n{own}\n")
    job = '[images.corpus_job]\nrepository = "care/corpus-job"\ntag = "0.1.0"\n'
    (clone / "images.lock.toml").write_text(LOCK + job)
    ecr(FIRST).create_repository(repositoryName="care/corpus-job", registryId=FIRST.account)

    publication(clone).publish([FIRST])
    assert [build for build in builds(clone) if "care/corpus-job" in " ".join(build)] == []

    publication(clone).publish([FIRST], only=["corpus_job"])
    (build,) = [build for build in builds(clone) if "care/corpus-job" in " ".join(build)]
    assert platform_of(build) == "linux/arm64"
    assert f"PYTHON_IMAGE={own}" in build


def test_a_tag_that_is_there_is_taken_and_not_built_again(
    clone: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = pushed(FIRST, "care/orchestrator", "0.1.0", digest=OTHER)
    publication(clone).publish([FIRST], only=["orchestrator"])
    assert builds(clone) == []
    assert load_images(clone / "images.lock.toml").image("orchestrator").digest == there
    assert "orchestrator:0.1.0 is in 111122223333/us-east-1 already" in "".join(capsys.readouterr())


def signed(clone: Path, *registries: Registry) -> list[str]:
    """Publish the orchestrator with a key, and return the images that cosign is asked to sign."""
    command = clone / "bin" / "cosign"
    command.write_text(f'#!/bin/bash\necho "$1 ${{@: -3}}" >> {clone}/cosign.log\n')
    command.chmod(0o755)
    publication(clone, signer=Cosign(key="awskms:///alias/images")).publish(registries, only=["orchestrator"])
    return (clone / "cosign.log").read_text().splitlines()


def test_with_a_key_an_image_is_signed_by_digest_in_each_registry(clone: Path) -> None:
    assert signed(clone, FIRST, SECOND) == [
        f"sign --key awskms:///alias/images {host}/care/orchestrator@{DIGEST}" for host in (HERE, THERE)
    ]


def test_an_image_that_somebody_else_may_have_pushed_is_not_signed(clone: Path) -> None:
    there = pushed(FIRST, "care/orchestrator", "0.1.0", digest=OTHER)
    with pytest.raises(
        DeploymentError, match=f"digest that the lock does not have: {there}. It is not signed"
    ):
        signed(clone, FIRST)
    assert not (clone / "cosign.log").exists()


def test_an_image_that_is_there_with_the_digest_of_the_lock_is_signed(clone: Path) -> None:
    there = pushed(FIRST, "care/orchestrator", "0.1.0", digest=OTHER)
    write_digest(clone / "images.lock.toml", name="orchestrator", digest=there)
    assert signed(clone, FIRST) == [f"sign --key awskms:///alias/images {HERE}/care/orchestrator@{there}"]


def test_a_copy_that_is_there_is_not_made_again(clone: Path) -> None:
    there = pushed(FIRST, "care/collector", "v1")
    assert pushed(SECOND, "care/collector", "v1") == there
    publication(clone).publish([FIRST, SECOND], only=["collector"])
    assert [call[0] for call in calls(clone)] == ["login", "login"]
    assert load_images(clone / "images.lock.toml").image("collector").digest == there


def test_a_tag_that_holds_something_else_in_another_account_ends_it(clone: Path) -> None:
    pushed(FIRST, "care/collector", "v1")
    pushed(SECOND, "care/collector", "v1", digest=OTHER)
    with pytest.raises(DeploymentError, match=f"is {OTHER}, not .*another tag in the lock"):
        publication(clone).publish([FIRST, SECOND], only=["collector"])
    assert (clone / "images.lock.toml").read_text() == LOCK


def test_a_registry_without_the_repository_names_the_stage_that_makes_it(clone: Path) -> None:
    ecr(FIRST).delete_repository(repositoryName="care/orchestrator", registryId=FIRST.account)
    with pytest.raises(DeploymentError, match=r"no repository care/orchestrator.*-c stage=account"):
        publication(clone).publish([FIRST], only=["orchestrator"])


def test_an_image_of_others_is_copied_and_not_built(clone: Path) -> None:
    publication(clone).publish([FIRST], only=["collector"])
    assert [
        "buildx",
        "imagetools",
        "create",
        "--prefer-index=false",
        "--tag",
        f"{HERE}/care/collector:v1",
        "public.example/collector:v1",
    ] in (calls(clone))
    assert not [call for call in calls(clone) if call[:2] == ["buildx", "build"]]


def test_the_password_goes_by_standard_input_alone(clone: Path) -> None:
    publication(clone).publish([FIRST], only=["orchestrator"])
    first = json.loads((clone / "docker.log").read_text().splitlines()[0])
    token = boto3.client("ecr", region_name="us-east-1").get_authorization_token(registryIds=["111122223333"])
    password = base64.b64decode(token["authorizationData"][0]["authorizationToken"]).decode().split(":")[1]
    assert first["args"] == ["login", "--username", "AWS", "--password-stdin", HERE]
    assert first["stdin"] == password
    assert password not in " ".join(part for call in calls(clone) for part in call)


def test_a_copy_that_differs_is_an_error_and_nothing_is_locked(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_INSPECTED", f"sha256:{'6' * 64}")
    with pytest.raises(DeploymentError, match=r"orchestrator:0\.1\.0 in 444455556666 is sha256:6"):
        publication(clone).publish([FIRST, SECOND], only=["orchestrator"])
    assert (clone / "images.lock.toml").read_text() == LOCK


def test_docker_s_failure_ends_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_STATUS", "3")
    with pytest.raises(DeploymentError, match=r"docker login .* ended with 3"):
        publication(clone).publish([FIRST])
    assert (clone / "images.lock.toml").read_text() == LOCK


def test_an_image_of_aws_is_locked_by_what_its_registry_says(clone: Path) -> None:
    publication(clone).lock("llm", region="us-east-1")
    assert load_images(clone / "images.lock.toml").image("llm").digest == DIGEST
    assert calls(clone)[-1][3] == "999988887777.dkr.ecr.us-east-1.amazonaws.com/vllm:1.0"


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
        ConfigurationError, match="llm: not an image of ours; there are orchestrator, model_server, collector"
    ):
        publication(clone).publish([], only=["llm"])
