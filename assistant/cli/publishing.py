"""``assistant aws publish-images``, ``lock-image`` and ``put-artifacts``: what a deployment needs published.

Images are built, pushed and copied, and their digests written into the lock; the stacks use only the digests.
That needs Docker with buildx, and a network that reaches the registries: a build machine, not the closed VPC.
Models that come as Python packages are uploaded into a tenant's models bucket. They need no chip and no
build: a tenant that names them answers before its own models are compiled.
"""
# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from assistant.cli.account import AwsAccount, aws_errors
from assistant.cli.deployed import Deployed
from assistant.cli.signatures import Cosign
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.deployment import ModelsSection
from assistant.settings.model_artifacts import (
    CALLERS_PREFIX,
    ImageLock,
    LlmManifest,
    LockedImage,
    artifact_sha256,
    load_embedding_manifest,
    load_images,
    load_llm_manifest,
    write_digest,
)
from assistant.settings.process import ModelServerSettings
from assistant.settings.tenant import TenantConfig

_LIMIT_S = 3600
_PART_BYTES = 1024 * 1024
_BASE_LOCK = Path("containers/base-image.lock")

Platform = Literal["linux/amd64", "linux/arm64"]
_INTEL: Platform = "linux/amd64"
ARM: Platform = "linux/arm64"
PLATFORMS = {"model_server": _INTEL, "learning": _INTEL, "corpus_job": ARM}
"""Whatever the tasks and the build machine are: no instance of the instance table is Arm's, the functions are
x86_64, and the corpus application is Arm's."""
_ON_REQUEST = frozenset({"corpus_job"})
"""Published only when they are named: most tenants run none."""


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

    def place(self, image: LockedImage) -> str:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """Builds, copies and locks images."""

    root: Path
    lock_file: Path
    terminal: Terminal
    platform: Platform = "linux/amd64"
    """Of the tasks: ``[tasks] architecture`` of the tenants."""
    signer: Cosign | None = None

    def publish(self, registries: Sequence[Registry], *, only: Sequence[str] = ()) -> None:
        """Build or copy every own image into the first registry, copy it to the others, sign it, lock it.

        A tag is never written twice (repositories are immutable): an existing one is used as it is, and
        signed only if the lock has its digest.
        Raises ConfigurationError, DeploymentError.
        """
        lock = load_images(self.lock_file)
        for registry in registries:
            self._log_in(registry)
        for name, image in _chosen(lock, only).items():
            first = registries[0]
            existing = self._existing(name, image, first)
            digest = existing or self._make(name, image, first.place(image))
            for registry in registries[1:]:
                copied = self._existing(name, image, registry)
                if copied is None:
                    self.terminal.step(f"{name}: copying to {registry.account}/{registry.region}")
                    source = f"{first.host}/{image.repository}@{digest}"
                    copied = self._copy(source, registry.place(image))
                if copied != digest:
                    raise DeploymentError(
                        f"{name}:{image.tag} in {registry.account} is {copied}, not {digest}. A tag is never "
                        "written twice: give the image another tag in the lock, and publish that."
                    )
            if self.signer is not None:
                _refuse_strange(name, image, existing)
                for registry in registries:
                    self.signer.sign(f"{registry.host}/{image.repository}@{digest}")
            write_digest(self.lock_file, name=name, digest=digest)
            self.terminal.say(f"{name} = {digest}")

    def lock(self, name: str, *, region: str) -> None:
        """Write the current digest of an image of AWS in one region. Raises as ``publish``."""
        lock = load_images(self.lock_file)
        image = lock.image(name)
        registry = Registry(account=lock.account(name, region=region, own=""), region=region)
        self._log_in(registry)
        place = registry.place(image)
        digest = self._inspect(place)
        write_digest(self.lock_file, name=name, digest=digest)
        self.terminal.say(f"{name} = {digest}")

    def _existing(self, name: str, image: LockedImage, registry: Registry) -> str | None:
        digest = registry.digest(image)
        if digest is not None:
            self.terminal.say(
                f"{name}:{image.tag} is in {registry.account}/{registry.region} already, and used as it is; "
                "a changed image needs another tag in the lock"
            )
        return digest

    def _make(self, name: str, image: LockedImage, place: str) -> str:
        self.terminal.step(f"{name}: {'copying' if image.source else 'building'}")
        return self._copy(image.source, place) if image.source else self._build(name, place)

    def _build(self, name: str, place: str) -> str:
        definition = self.root / "containers" / name / "Dockerfile"
        if not definition.exists():
            raise ConfigurationError(f"{definition}: the image {name} has neither this file nor a source.")
        with tempfile.TemporaryDirectory() as folder:
            metadata = Path(folder) / "metadata.json"
            options = {
                # The default is the build machine's: an image of an Arm laptop does not start on x86.
                "--platform": PLATFORMS.get(name, self.platform),
                "--metadata-file": str(metadata),
                "--build-arg": f"PYTHON_IMAGE={self._base(name)}",
                "--file": str(definition),
                "--tag": place,
            }
            given = [part for option in options.items() for part in option]
            self._docker(["buildx", "build", "--push", "--provenance=false", *given, str(self.root)])
            return str(json.loads(metadata.read_text(encoding="utf-8"))["containerimage.digest"])

    def _copy(self, source: str, place: str) -> str:
        # By default buildx wraps a single image in a new index, which has another digest.
        self._docker(["buildx", "imagetools", "create", "--prefer-index=false", "--tag", place, source])
        return self._inspect(place)

    def _inspect(self, place: str) -> str:
        return self._docker(["buildx", "imagetools", "inspect", place, "--format", "{{.Manifest.Digest}}"])

    def _base(self, name: str) -> str:
        own = self.root / f"containers/{name}/{_BASE_LOCK.name}"
        lock = own if own.exists() else self.root / _BASE_LOCK
        lines = lock.read_text(encoding="utf-8").splitlines()
        pinned = [line for line in lines if not line.startswith("#") and "@sha256:" in line]
        if len(pinned) != 1:
            place = lock.relative_to(self.root)
            raise ConfigurationError(f"{place} holds no digest yet: run make lock-images IMAGE={name} once.")
        return pinned[0]

    def _log_in(self, registry: Registry) -> None:
        user, password = registry.login()
        self._docker(["login", "--username", user, "--password-stdin", registry.host], stdin=password)

    def _docker(self, arguments: Sequence[str], *, stdin: str | None = None) -> str:
        try:
            done = subprocess.run(
                ["docker", *arguments],
                cwd=self.root,
                input=stdin,
                stdout=subprocess.PIPE,
                text=True,
                timeout=_LIMIT_S,
                check=False,
            )
        except FileNotFoundError:
            raise ConfigurationError("There is no docker here: publish images where there is one.") from None
        except subprocess.TimeoutExpired:
            raise DeploymentError(f"docker {arguments[0]} did not end within {_LIMIT_S} s.") from None
        if done.returncode:
            raise DeploymentError(f"docker {' '.join(arguments[:3])} ended with {done.returncode}.")
        return done.stdout.strip()


def _refuse_strange(name: str, image: LockedImage, existing: str | None) -> None:
    if existing not in (None, image.digest):
        raise DeploymentError(
            f"{name}:{image.tag} was in the registry already, with a digest that the lock does not have: "
            f"{existing}. It is not signed. If it is your build, write that digest into the lock and run "
            "this again. If not, find out who pushed it, and give the image another tag."
        )


def _chosen(lock: ImageLock, only: Sequence[str]) -> dict[str, LockedImage]:
    own_images = dict(lock.own())
    if unknown := [name for name in only if name not in own_images]:
        raise ConfigurationError(
            f"{', '.join(unknown)}: not an image of ours; there are {', '.join(own_images)}."
        )
    chosen = set(only) or own_images.keys() - _ON_REQUEST
    return {name: image for name, image in own_images.items() if name in chosen}


# --- model artifacts --------------------------------------------------------------------------------------
_OF_CALLERS = ("artifact.json", "tokenizer.json")
_TASKS = {"embedding": "embedding", "generation": "llm"}
"""Task of a packaged model = first part of its keys."""


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Files below one prefix of the bucket, which ends in ``/``."""

    prefix: str
    files: tuple[str, ...]


def model_files(models: ModelsSection, *, folder: Path) -> list[ModelFiles]:
    """Return the files that the manifests in ``folder`` (``model_artifacts``) name.

    Raises ConfigurationError.
    """
    manifests = {
        "llm": load_llm_manifest(folder / "llm" / models.llm),
        "embedding": load_embedding_manifest(folder / "embedding" / models.embedding),
    }
    found: list[ModelFiles] = []
    for kind, manifest in manifests.items():
        found.append(ModelFiles(f"{kind}/{manifest.name}/{manifest.sha256}/", manifest.files))
        found.append(ModelFiles(f"{CALLERS_PREFIX}{manifest.served_name}/", _OF_CALLERS))
    return found


def put_models(tenant: TenantConfig, *, tenant_file: Path, root: Path, terminal: Terminal) -> None:
    """Upload every file that the tenant's manifests name and that a Python package has.

    Raises DeploymentError, and ConfigurationError naming the files that no package has.
    """
    if tenant.models is None:
        raise ConfigurationError(f"{tenant.name} has no [models] section, so there is nothing to upload.")
    wanted = model_files(tenant.models, folder=root / "model_artifacts")
    keys = [f"{model.prefix}{name}" for model in wanted for name in model.files]
    with tempfile.TemporaryDirectory() as folder:
        packaged = {name: path for task in _TASKS for name, path in _packaged_files(task, Path(folder))}
        packages = {key: packaged[_without_name(key)] for key in keys if _without_name(key) in packaged}
        upload(Deployed.of(tenant, tenant_file), packages, terminal)
    if absent := [key for key in keys if key not in packages]:
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
    """Read an object; return its SHA-256 and its ETag."""
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
        there = {str(one["Key"]).removeprefix(prefix) for page in pages for one in page.get("Contents", ())}
        for file in there & set(manifest.files):
            hashes[file], _ = stored_sha256(s3, name, f"{prefix}{file}")
            terminal.step(f"read s3://{name}/{prefix}{file}")
    if wrong := sorted(there ^ set(manifest.files)):
        advice = f"the files of {manifest.name}: {', '.join(wrong)}. Put it again: models package --put T."
        raise DeploymentError(f"s3://{name}/{prefix} does not hold exactly {advice}")
    if (found := artifact_sha256(hashes)) != manifest.sha256:
        advice = "Find out who put it, and package the model again under another name."
        raise DeploymentError(f"s3://{name}/{prefix} holds another artifact, of hash {found}. {advice}")


def _packaged_files(task: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a packaged model by ``KIND/DIGEST/FILE``, and its callers' by their key."""
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
    """Return ``KIND/DIGEST/FILE`` for the key ``KIND/NAME/DIGEST/FILE``; a key of callers stays."""
    if key.startswith(CALLERS_PREFIX):
        return key
    kind, _name, rest = key.split("/", 2)
    return f"{kind}/{rest}"
