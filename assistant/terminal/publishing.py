"""What is put into a deployment from outside: models (``assistant aws put-artifacts``), images with their
signatures, and files for an inbox (``assistant knowledge push``).

Models that come as Python packages are uploaded into a tenant's models bucket as they are. So a tenant that
names them can answer before its own models are compiled.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

from assistant.documents.files import files_of, skipped_files
from assistant.documents.uploads import pushed_result
from assistant.domain.documents import UploadRefusal, UploadResult
from assistant.domain.errors import ConfigurationError, DeploymentError, DocumentInvalidError
from assistant.process.settings import ModelServerSettings
from assistant.tenant.deployment import ModelsSection
from assistant.tenant.manifests import (
    CALLERS_PREFIX,
    EmbeddingManifest,
    LlmManifest,
    LockedImage,
    artifact_sha256,
)
from assistant.tenant.tenant import TenantConfig
from assistant.terminal.account import AwsAccount, Deployed, Templates, aws_errors
from assistant.terminal.loading import Show, SourceFolders
from assistant.terminal.terminal import Terminal

_PART_BYTES = 1024 * 1024
"""Read at a time from S3."""

Platform = Literal["linux/amd64", "linux/arm64"]
_INTEL: Platform = "linux/amd64"
ARM: Platform = "linux/arm64"
PLATFORMS = {"model_server": _INTEL, "learning": _INTEL, "corpus_job": ARM}
"""Images whose platform does not follow the tenant's tasks: SageMaker's instances here are all x86_64, and
the corpus application runs on Arm."""


class Registry(AwsAccount):
    """The private registry of one account and region."""

    @classmethod
    def parse(cls, text: str) -> Registry:
        """Read ``ACCOUNT/REGION``. Raises ConfigurationError."""
        account, _, region = text.partition("/")
        if not (account.isdigit() and len(account) == 12 and region):
            raise ConfigurationError(f"{text}: a registry is named ACCOUNT/REGION: 111122223333/us-east-1.")
        return cls(account=account, region=region)

    @property
    def url_suffix(self) -> str:
        return "amazonaws.com.cn" if self.region.startswith("cn-") else "amazonaws.com"

    @property
    def host(self) -> str:
        return f"{self.account}.dkr.ecr.{self.region}.{self.url_suffix}"

    def name_of(self, image: LockedImage) -> str:
        """Return the full name of an image here."""
        return f"{self.host}/{image.repository}:{image.tag}"

    def digest(self, image: LockedImage) -> str | None:
        """Return the digest of an image's tag here; None without such a tag. Raises DeploymentError."""
        try:
            response = self.call(
                "ecr",
                "describe_images",
                missing="ImageNotFoundException",
                registryId=self.account,
                repositoryName=image.repository,
                imageIds=[{"imageTag": image.tag}],
            )
        except DeploymentError as error:
            if "RepositoryNotFoundException" not in error.message:
                raise
            raise DeploymentError(
                f"{self.account}/{self.region} has no repository {image.repository}. Deploy the account "
                "stage there first: npx cdk deploy -c stage=account '**'"
            ) from None
        return None if response is None else str(response["imageDetails"][0]["imageDigest"])

    def login(self) -> tuple[str, str]:
        """Return user and password for Docker, valid for twelve hours. Raises DeploymentError."""
        given = self.call("ecr", "get_authorization_token", registryIds=[self.account])
        token = given["authorizationData"][0]["authorizationToken"]
        user, _, password = base64.b64decode(token).decode().partition(":")
        return user, password


# --- model artifacts --------------------------------------------------------------------------------------
# Files that callers of an endpoint read
_OF_CALLERS = ("artifact.json", "tokenizer.json")
_TASKS = {"embedding": "embedding", "generation": "llm"}
"""Task of a packaged model = first part of its keys."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Files below one prefix of the bucket, which ends in ``/``."""

    prefix: str
    files: tuple[str, ...]


def model_files(models: ModelsSection, *, folder: Path) -> list[ModelFiles]:
    """Return the files that a tenant's models need in the bucket, by the manifests in ``folder``
    (``model_artifacts``).

    For ``smollm2-135m-cpu``: its weights below ``llm/smollm2-135m-cpu/<sha256>/``, and the two files for
    callers below ``callers/SmolLM2-135M-Instruct/``.

    Raises ConfigurationError.
    """
    manifests: list[tuple[str, LlmManifest | EmbeddingManifest]] = []
    if models.llm is not None:
        manifests.append(("llm", LlmManifest.read(folder / "llm" / models.llm)))
    for name in models.embeddings:
        manifests.append(("embedding", EmbeddingManifest.read(folder / "embedding" / name)))
    listed: list[ModelFiles] = []
    for kind, manifest in manifests:
        listed.append(ModelFiles(f"{kind}/{manifest.name}/{manifest.sha256}/", manifest.files))
        listed.append(ModelFiles(f"{CALLERS_PREFIX}{manifest.served_name}/", _OF_CALLERS))
    return listed


def put_models(tenant: TenantConfig, *, tenant_file: Path, root: Path, terminal: Terminal) -> None:
    """Upload every file that the tenant's manifests name and that a Python package has.

    Raises DeploymentError, and ConfigurationError naming the files that no package and no bucket has.
    """
    if tenant.models is None:
        raise ConfigurationError(f"{tenant.name} has no [models] section, so there is nothing to upload.")
    wanted = model_files(tenant.models, folder=root / "model_artifacts")
    keys = [f"{model.prefix}{name}" for model in wanted for name in model.files]
    with tempfile.TemporaryDirectory() as folder:
        packaged = {name: path for task in _TASKS for name, path in _packaged_files(task, Path(folder))}
        packages = {key: packaged[_without_name(key)] for key in keys if _without_name(key) in packaged}
        upload(deployed := Deployed.of(tenant, tenant_file), packages, terminal)
    with aws_errors("s3", "list_objects_v2"):
        bucket, s3 = deployed.models_bucket(), deployed.publisher()
        others = [key for key in keys if key not in packages]
        absent = [key for key in others if not s3.list_objects_v2(Bucket=bucket, Prefix=key)["KeyCount"]]
    if absent:
        raise ConfigurationError(
            "No Python package contains these files. Build them and upload them as the publisher "
            f"(model_artifacts/README.md): {', '.join(absent)}"
        )


def upload(deployed: Deployed, files: Mapping[str, Path], terminal: Terminal) -> None:
    """Put files by their keys into the bucket, as the publisher. Raises DeploymentError."""
    bucket, s3 = deployed.models_bucket(), deployed.publisher()
    with aws_errors("s3", "upload_file"):
        for key, path in files.items():
            s3.upload_file(str(path), bucket, key)
            terminal.step(f"s3://{bucket}/{key}")


def stored_sha256(s3: Any, bucket: str, key: str) -> tuple[str, str]:
    """Read an object of S3; return its SHA-256 (hex) and its ETag."""
    answer, content = s3.get_object(Bucket=bucket, Key=key), hashlib.sha256()
    for part in answer["Body"].iter_chunks(_PART_BYTES):
        content.update(part)
    return content.hexdigest(), answer["ETag"]


def check_artifact(manifest: LlmManifest, *, deployed: Deployed, terminal: Terminal) -> None:
    """Read every file of the artifact in the bucket, as the publisher, and compare the hash.

    Raises DeploymentError for other files or other bytes.
    """
    name, s3 = deployed.models_bucket(), deployed.publisher()
    hashes: dict[str, str] = {}
    prefix = f"llm/{manifest.name}/{manifest.sha256}/"
    with aws_errors("s3", "get_object"):
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=name, Prefix=prefix)
        stored = {str(one["Key"]).removeprefix(prefix) for page in pages for one in page.get("Contents", ())}
        for file in stored & set(manifest.files):
            hashes[file], _ = stored_sha256(s3, name, f"{prefix}{file}")
            terminal.step(f"read s3://{name}/{prefix}{file}")
    if wrong := sorted(stored ^ set(manifest.files)):
        advice = f"the files of {manifest.name}: {', '.join(wrong)}. Put it again: models package --put T."
        raise DeploymentError(f"s3://{name}/{prefix} does not hold exactly {advice}")
    if (actual := artifact_sha256(hashes)) != manifest.sha256:
        advice = "Find out who put it, and package the model again under another name."
        raise DeploymentError(f"s3://{name}/{prefix} holds another artifact, of hash {actual}. {advice}")


def _packaged_files(task: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a packaged model, (``KIND/DIGEST/FILE``, path), then those for callers, (key, path):
    these are built in ``folder``."""
    from assistant.model_server.artifact import ensure_artifact
    from assistant.model_server.weights import locate_weights

    settings = ModelServerSettings(task=task, artifacts_dir=folder)  # type: ignore[arg-type]
    weights = locate_weights(settings)
    path, digest = weights.path, weights.digest()
    for file in [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file()):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        yield f"{_TASKS[task]}/{digest}/{name}", file
    model = ensure_artifact(settings).model
    for file in sorted((folder / model).iterdir()):
        yield f"{CALLERS_PREFIX}{model}/{file.name}", file


def _without_name(key: str) -> str:
    """Return ``KIND/DIGEST/FILE`` for the key ``KIND/NAME/DIGEST/FILE``: a packaged file counts whatever name
    the tenant's artifact has. A key of callers is returned as it is."""
    if key.startswith(CALLERS_PREFIX):
        return key
    kind, _name, rest = key.split("/", 2)
    return f"{kind}/{rest}"


# --- signatures of images ---------------------------------------------------------------------------------
_LIMIT_S = 300
"""Of one call of cosign."""
_HOW_IMAGES_ARE_NAMED = frozenset({"Image", "ImageUri"})
"""Properties of CloudFormation: of a container or a model, and of a function or a Spark application."""
_FIXED = re.compile(r"@sha256:[0-9a-f]{64}$")
"""End of an image's name with a digest."""


def unverified(
    images: Sequence[str], *, key: str, login: tuple[str, tuple[str, str]] | None = None
) -> Iterator[str]:
    """Yield a message for each image, named by digest, that has no valid signature by a key, by cosign 3.

    ``key``: ``awskms:///ARN``, or a file with the public key. ``login``: the registry's host, with user and
    password; None: Docker's. Raises ConfigurationError where there is no cosign.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ)
        if login is not None:
            host, (user, password) = login
            auth = base64.b64encode(f"{user}:{password}".encode()).decode()
            config = json.dumps({"auths": {host: {"auth": auth}}})
            (Path(folder) / "config.json").write_text(config, encoding="utf-8")
            environment["DOCKER_CONFIG"] = folder
        for image in images:
            if (refused := _refusal(image, key=key, environment=environment)) is not None:
                yield (
                    f"{image} has no valid signature by {key}: {refused}. If it is your build, sign it "
                    "(docs/from-nothing.md, Signed images). If not, find out who pushed it."
                )


def _refusal(image: str, *, key: str, environment: Mapping[str, str]) -> str | None:
    """Return the last line of cosign where it refuses an image, else None."""
    command = ["cosign", "verify", "--insecure-ignore-tlog=true", "--key", key, image]
    try:
        ended = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_LIMIT_S, check=False
        )
    except FileNotFoundError:
        raise ConfigurationError(
            "There is no cosign on this machine. Install cosign 3: docs/from-nothing.md, action 8."
        ) from None
    except subprocess.TimeoutExpired:
        return f"cosign did not end within {_LIMIT_S} s"
    lines = ended.stderr.strip().splitlines() or [f"cosign ended with {ended.returncode}"]
    return lines[-1] if ended.returncode else None


def images_of(templates: Templates, *, url_suffix: str) -> list[str]:
    """Return each image that the templates run, as they name it: by digest or by tag."""
    return sorted(set(_images(templates, url_suffix)))


def refuse_tags(images: Sequence[str]) -> None:
    """Raise DeploymentError naming the images that have no digest."""
    if tagged := [image for image in images if not _FIXED.search(image)]:
        raise DeploymentError(
            "These images have a tag and no digest, and a tag can be moved to another image:\n  "
            + "\n  ".join(tagged)
            + "\nWrite the digest into images.lock.toml: make images TO=ACCOUNT/REGION ARGS=NAME"
        )


def _images(value: Any, url_suffix: str) -> Iterator[str]:
    """Yield the images below a value of a template."""
    if isinstance(value, list):
        value = dict(enumerate(cast("list[Any]", value)))
    for name, inner in cast("dict[Any, Any]", value).items() if isinstance(value, Mapping) else ():
        is_image = name in _HOW_IMAGES_ARE_NAMED
        yield from [_text(inner, url_suffix)] if is_image else _images(inner, url_suffix)


def _text(value: Any, url_suffix: str) -> str:
    """Return a property's text, with Fn::Join and AWS::URLSuffix resolved: ``{"Fn::Join": ["",
    ["1112.dkr.ecr.us-east-1.", {"Ref": "AWS::URLSuffix"}, "/service@sha256:…"]]}`` →
    ``1112.dkr.ecr.us-east-1.amazonaws.com/service@sha256:…``."""
    match value:
        case {"Fn::Join": ["", [*parts]]}:
            return "".join(_text(part, url_suffix) for part in parts)
        case {"Ref": "AWS::URLSuffix"}:
            return url_suffix
        case str():
            return value
        case _:
            return json.dumps(value)


# --- files for an inbox -----------------------------------------------------------------------------------
# The caller needs no permission but to assume the pusher's role of a source. The result of each file is an
# object in the inbox, too, named by the version that S3 gave the file (``pushed_result``).
_POLL_S = 1.0
# Fields of UploadResult that a push adds up
_COUNTS = ("added", "changed", "unchanged", "withdrawn", "waiting", "refused")


@dataclass(slots=True)
class PushReport:
    """What became of the files of a push."""

    files: int = 0
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_COUNTS, 0))
    """Of documents: added, changed, unchanged, withdrawn; waiting for a second person; refused."""
    refusals: list[str] = field(default_factory=list[str])
    """A line for each refused file or document, with the reason."""
    unread: list[str] = field(default_factory=list[str])
    """Keys of files that were put, and have no result yet."""
    notes: list[str] = field(default_factory=list[str])
    """What of a file was not read: a scanned page, a hidden sheet."""
    skipped: list[str] = field(default_factory=list[str])
    """Files of a kind that is not read: they were not put."""
    seconds: float = 0.0

    def include(self, name: str, result: UploadResult) -> None:
        """Add the result of one file."""
        for count in _COUNTS:
            self.counts[count] += getattr(result, count)
        self.refusals += [f"{each.origin}: {each.reason} ({each.code})" for each in result.refusals]
        if (more := result.refused - len(result.refusals)) > 0:
            self.refusals.append(f"{name}: and {more:,} more")
        self.notes += [f"{name}: {note}" for note in result.notes]


def push(deployed: Deployed, folders: Sequence[SourceFolders], *, show: Show, wait_s: float) -> PushReport:
    """Put all files of the folders into the inbox, and wait until each is read. After ``wait_s`` without any
    result it gives up, and the report names the files without one.

    Raises ConfigurationError for a source without pushers, before anything is put; DeploymentError, also
    where the caller may not assume the role.
    """
    began_s, report, pushed = time.monotonic(), PushReport(), list[tuple[Inbox, str, str]]()
    inboxes = [Inbox.of(deployed, folder) for folder in folders]
    for inbox in inboxes:
        report.skipped += skipped_files(inbox.folder.paths)
        for key, version in inbox.put(report):
            pushed.append((inbox, key, version))
            show(len(pushed), 0)
    ends = time.monotonic() + wait_s
    for done, (inbox, key, version) in enumerate(pushed):
        show(done, len(pushed))
        while (result := inbox.result(key, version)) is None and time.monotonic() < ends:
            time.sleep(_POLL_S)
        if result is None:
            report.unread.append(key)
        else:
            ends = time.monotonic() + wait_s
            report.include(key, result)
    report.files, report.seconds = len(pushed), time.monotonic() - began_s
    return report


@dataclass(frozen=True, slots=True)
class Inbox:
    """The inbox with the credentials of one source's pushers, which last an hour."""

    folder: SourceFolders
    s3: Any
    bucket: str

    @classmethod
    def of(cls, deployed: Deployed, folder: SourceFolders) -> Inbox:
        """Assume the role. Raises ConfigurationError, DeploymentError."""
        place, tenant, source = deployed.place, deployed.config.name, folder.source.name
        if source not in place.pushers:
            raise ConfigurationError(
                f'Nobody may push files of the source "{source}": name a role or user in '
                "deployment.pushers, and deploy."
            )
        partition = str(deployed.aws.call("sts", "get_caller_identity")["Arn"]).split(":")[1]
        path = f"{place.role_path}{tenant}/{place.pusher(tenant, source)}"
        pusher = deployed.aws.as_role(f"arn:{partition}:iam::{place.account}:role{path}")
        name = place.inbox_parameter(tenant)
        if (bucket := pusher.parameter(name)) is None:
            raise DeploymentError(f"There is no parameter {name}: deploy.")
        return cls(folder, pusher.client("s3"), bucket)

    def put(self, report: PushReport) -> Iterator[tuple[str, str]]:
        """Put each file; yield its key and version. A link out of its folder, and what is no regular file, is
        added to the report as refused."""
        for path, name, is_inside in files_of(self.folder.paths):
            if not (is_inside and path.is_file() and name.isprintable()):
                reason = "not put: a link out of its folder, no regular file, or a name that is not text"
                refused = UploadRefusal(origin=ascii(name), code=DocumentInvalidError.code, reason=reason)
                report.include(name, UploadResult(refused=1, refusals=(refused,)))
                continue
            key = f"{self.folder.source.name}/{name}"
            with aws_errors("s3", "put_object"), path.open("rb") as body:
                done = self.s3.put_object(Bucket=self.bucket, Key=key, Body=body, ChecksumAlgorithm="SHA256")
            yield key, str(done["VersionId"])

    def result(self, key: str, version: str) -> UploadResult | None:
        """Return the result of a file; None while it is not read."""
        result_key = pushed_result(key, version)
        with aws_errors("s3", "list_objects_v2"):
            if not self.s3.list_objects_v2(Bucket=self.bucket, Prefix=result_key).get("KeyCount"):
                return None
            body = self.s3.get_object(Bucket=self.bucket, Key=result_key)["Body"].read()
        return UploadResult.model_validate_json(body)
