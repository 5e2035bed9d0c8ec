"""``assistant artifacts put``: uploads models that come as Python packages into a tenant's models bucket.

They need no chip and no build: a tenant that names them answers before its own models are compiled.
"""

# pyright: reportMissingTypeStubs=false, reportUnknownMemberType=false, reportUnknownVariableType=false
from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from assistant.cli.aws_account import AwsAccount
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.deployment import ModelsSection, PlaceSection
from assistant.settings.model_artifacts import CALLERS_PREFIX, load_embedding_manifest, load_llm_manifest
from assistant.settings.process import ModelServerSettings
from assistant.settings.tenant import TenantConfig

BUCKET_OUTPUT = "ModelsBucketName"
PUBLISHER_OUTPUT = "ArtifactPublisherArn"
"""Outputs of a tenant's data stack."""
_OF_CALLERS = ("artifact.json", "tokenizer.json")


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """Files below one prefix of the bucket, which ends in ``/``."""

    prefix: str
    files: tuple[str, ...]


def model_files(models: ModelsSection, *, folder: Path) -> list[ModelFiles]:
    """Return what the manifests in ``folder`` (``model_artifacts``) name. Raises ConfigurationError."""
    return list(_model_files(models, folder))


def _model_files(models: ModelsSection, folder: Path) -> Iterator[ModelFiles]:
    manifests = {
        "llm": load_llm_manifest(folder / "llm" / models.llm),
        "embedding": load_embedding_manifest(folder / "embedding" / models.embedding),
    }
    for task, manifest in manifests.items():
        yield ModelFiles(f"{task}/{manifest.name}/{manifest.sha256}/", manifest.files)
    for manifest in manifests.values():
        yield ModelFiles(f"{CALLERS_PREFIX}{manifest.served_name}/", _OF_CALLERS)


# ``assistant artifacts put``: the models that come as Python packages, into a tenant's models bucket.


_TASKS = ("embedding", "generation")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackagedModels:
    """One tenant's packaged models on their way into its bucket."""

    tenant: TenantConfig
    place: PlaceSection
    aws: AwsAccount
    root: Path
    terminal: Terminal

    def put(self) -> None:
        """Put every file that the tenant's manifests name. Raises ConfigurationError, DeploymentError."""
        if self.tenant.models is None:
            raise ConfigurationError(f"{self.tenant.name} has no [models] section: there is nothing to put.")
        self.aws.require()
        stack = f"{self.place.name_prefix}-{self.tenant.name}-Data"
        outputs = self.aws.outputs(stack)
        if BUCKET_OUTPUT not in outputs:
            raise DeploymentError(f"{stack} does not stand yet: run assistant deploy first.")
        if PUBLISHER_OUTPUT not in outputs:
            raise DeploymentError(
                f"{stack} has no publisher's role: name a role in deployment.artifact_publishers, and deploy."
            )
        with tempfile.TemporaryDirectory() as folder:
            sources = {name: path for task in _TASKS for name, path in _files_of(task, Path(folder))}
            wanted = model_files(self.tenant.models, folder=self.root / "model_artifacts")
            files = {f"{each.prefix}{name}": name for each in wanted for name in each.files}
            self._upload(outputs, {key: path for key in files if (path := _source(key, sources))})
            absent = [key for key in files if _source(key, sources) is None]
        if absent:
            raise ConfigurationError(
                "These come with no Python package. Build and put them as the publisher "
                f"(model_artifacts/README.md): {', '.join(absent)}"
            )

    def _upload(self, outputs: Mapping[str, str], files: Mapping[str, Path]) -> None:
        bucket = outputs[BUCKET_OUTPUT]
        try:
            s3 = self._publisher(outputs[PUBLISHER_OUTPUT]).client("s3")
            for key, path in files.items():
                s3.upload_file(str(path), bucket, key)
                self.terminal.step(f"s3://{bucket}/{key}")
        except (ClientError, BotoCoreError) as error:
            raise DeploymentError(f"The model artifacts cannot be put into {bucket}: {error}") from None

    def _publisher(self, role: str) -> Any:
        given = boto3.client("sts", region_name=self.aws.region).assume_role(
            RoleArn=role, RoleSessionName="artifacts"
        )["Credentials"]
        return cast("Any", boto3).Session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            region_name=self.aws.region,
        )


def _files_of(task: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield each file of a packaged model by task, digest and name; what its callers read by its key."""
    from assistant.model_server.artifact import ensure_artifact
    from assistant.model_server.weights import locate_weights

    settings = ModelServerSettings(task=task, artifacts_dir=folder)  # type: ignore[arg-type]
    weights = locate_weights(settings)
    path, digest = weights.path, weights.digest()
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
        name = file.name if path.is_file() else file.relative_to(path).as_posix()
        yield f"{task}/{digest}/{name}", file
    model = ensure_artifact(settings).model
    for file in sorted((folder / model).iterdir()):
        yield f"callers/{model}/{file.name}", file


def _source(key: str, sources: Mapping[str, Path]) -> Path | None:
    """Return the local file of an object's key: ``llm/NAME/HASH/FILE`` or ``callers/MODEL/FILE``."""
    first, _, rest = key.partition("/")
    if first == "callers":
        return sources.get(key)
    task = {"llm": "generation", "embedding": "embedding"}[first]
    return sources.get(f"{task}/{rest.partition('/')[2]}")
