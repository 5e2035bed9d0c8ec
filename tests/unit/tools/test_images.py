"""``make images``: built once, and the registry's digest in the lock. Docker is a stand-in."""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.tenant.manifests import ImageLock, load_images
from assistant.terminal.publishing import Registry
from tools import images

HERE = Registry.parse("111122223333/us-east-1")
HOST = "111122223333.dkr.ecr.us-east-1.amazonaws.com"
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
DOCKER = f"""#!{sys.executable}
import json, os, sys
args = sys.argv[1:]
with open(os.environ["DOCKER_LOG"], "a") as log:
    stdin = sys.stdin.read() if "--password-stdin" in args else ""
    log.write(json.dumps({{"args": args, "stdin": stdin}}) + "\\n")
if args[:2] == ["buildx", "build"] and not {{"--platform", "--push", "--provenance=false"}} <= set(args):
    sys.exit("the build machine's platform, or an index around the image")
if args[:3] == ["buildx", "imagetools", "create"] and "--prefer-index=false" not in args:
    sys.exit("an index around the image, as buildx makes by default")
if args[:3] == ["buildx", "imagetools", "inspect"]:
    print("{DIGEST}")
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
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("DOCKER_LOG", str(tmp_path / "docker.log"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    return tmp_path


@pytest.fixture(autouse=True)
def registry(clone: Path) -> Iterator[Any]:
    """A client of the registry, with the repositories that the account stage makes."""
    with mock_aws():
        client: Any = boto3.client("ecr", region_name="us-east-1")
        for image in load_images(clone / "images.lock.toml").own().values():
            client.create_repository(
                registryId=HERE.account, repositoryName=image.repository, imageTagMutability="IMMUTABLE"
            )
        yield client


def pushed(registry: Any, repository: str, tag: str) -> str:
    """Put an image into the registry, and return its digest."""
    manifest = {"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json"}
    given = {"registryId": HERE.account, "repositoryName": repository, "imageTag": tag, "imageDigest": OTHER}
    return str(
        registry.put_image(**given, imageManifest=json.dumps(manifest))["image"]["imageId"]["imageDigest"]
    )


def publish(clone: Path, *names: str, platform: str = "linux/amd64") -> ImageLock:
    lock_file = clone / "images.lock.toml"
    images.publish(HERE, names, platform=platform, lock_file=lock_file)
    return load_images(lock_file)


def calls(clone: Path) -> list[list[str]]:
    return [json.loads(line)["args"] for line in (clone / "docker.log").read_text().splitlines()]


def builds(clone: Path) -> list[list[str]]:
    return [call for call in calls(clone) if call[:2] == ["buildx", "build"]]


def test_an_image_is_built_on_the_locked_base_and_its_digest_written(clone: Path) -> None:
    lock = publish(clone, "orchestrator")
    (build,) = builds(clone)
    assert {
        f"{HOST}/care/orchestrator:0.1.0",
        f"PYTHON_IMAGE={BASE}",
        "containers/orchestrator/Dockerfile",
    } <= set(build)
    assert (lock.image("orchestrator").digest, lock.image("model_server").digest) == (DIGEST, None)
    assert "# Copied as it is." in (clone / "images.lock.toml").read_text()


def test_tasks_run_on_what_is_asked_for_and_endpoints_on_x86(clone: Path) -> None:
    publish(clone, "orchestrator", "model_server", platform="linux/arm64")
    platforms = [build[build.index("--platform") + 1] for build in builds(clone)]
    assert platforms == ["linux/arm64", "linux/amd64"]


def test_an_image_with_a_base_of_its_own_is_built_on_that(clone: Path) -> None:
    own = f"public.example/spark:emr@sha256:{'c' * 64}"
    (clone / "containers/model_server/base-image.lock").write_text(f"# Spark\n{own}\n")
    publish(clone, "model_server")
    assert f"PYTHON_IMAGE={own}" in builds(clone)[0]


def test_an_image_of_others_is_copied_and_not_built(clone: Path) -> None:
    assert publish(clone, "collector").image("collector").digest == DIGEST
    copy = ["buildx", "imagetools", "create", "--prefer-index=false", "--tag", f"{HOST}/care/collector:v1"]
    assert [*copy, "public.example/collector:v1"] in calls(clone)
    assert builds(clone) == []


def test_an_image_of_aws_is_locked_by_what_its_registry_says(clone: Path) -> None:
    assert publish(clone, "llm").image("llm").digest == DIGEST
    assert calls(clone)[-1][3] == "999988887777.dkr.ecr.us-east-1.amazonaws.com/vllm:1.0"


def test_a_tag_that_is_there_is_taken_and_not_built_again(clone: Path, registry: Any) -> None:
    there = pushed(registry, "care/orchestrator", "0.1.0")
    assert publish(clone, "orchestrator").image("orchestrator").digest == there
    assert builds(clone) == []


def test_the_password_goes_by_standard_input_alone(clone: Path, registry: Any) -> None:
    publish(clone, "orchestrator")
    first = json.loads((clone / "docker.log").read_text().splitlines()[0])
    token = registry.get_authorization_token(registryIds=[HERE.account])["authorizationData"][0][
        "authorizationToken"
    ]
    password = base64.b64decode(token).decode().split(":")[1]
    assert first == {"args": ["login", "--username", "AWS", "--password-stdin", HOST], "stdin": password}
    assert password not in " ".join(part for call in calls(clone) for part in call)


def test_a_registry_without_the_repository_names_the_stage_that_makes_it(clone: Path, registry: Any) -> None:
    registry.delete_repository(registryId=HERE.account, repositoryName="care/orchestrator")
    with pytest.raises(DeploymentError, match=r"no repository care/orchestrator.*-c stage=account"):
        publish(clone, "orchestrator")


def test_docker_s_failure_ends_it(clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_STATUS", "3")
    with pytest.raises(DeploymentError, match=r"docker login .* ended with 3"):
        publish(clone, "orchestrator")
    assert (clone / "images.lock.toml").read_text() == LOCK


def test_a_base_without_a_digest_is_named(clone: Path) -> None:
    (clone / "containers/base-image.lock").write_text("docker.io/library/python:3.13\n")
    with pytest.raises(ConfigurationError, match="make lock-images IMAGE=orchestrator"):
        publish(clone, "orchestrator")


@pytest.mark.parametrize("text", ["111122223333", "1111/us-east-1", "us-east-1/111122223333", ""])
def test_a_registry_is_named_by_account_and_region(text: str) -> None:
    with pytest.raises(ConfigurationError, match="ACCOUNT/REGION"):
        Registry.parse(text)


def test_every_image_that_is_published_unasked_is_in_the_lock() -> None:
    assert (
        set(images.BY_DEFAULT)
        <= load_images(Path(images.__file__).parents[1] / "images.lock.toml").images.keys()
    )
