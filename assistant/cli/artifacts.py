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

from assistant.cli.aws_account import AwsAccount, place_of
from assistant.cli.terminal import Terminal
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.deployment import ModelsSection
from assistant.settings.model_artifacts import CALLERS_PREFIX, load_embedding_manifest, load_llm_manifest
from assistant.settings.process import ModelServerSettings
from assistant.settings.tenant import TenantConfig

BUCKET_OUTPUT = "ModelsBucketName"
PUBLISHER_OUTPUT = "ArtifactPublisherArn"
"""Outputs of a tenant's data stack."""
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
    return [
        *(
            ModelFiles(f"{kind}/{manifest.name}/{manifest.sha256}/", manifest.files)
            for kind, manifest in manifests.items()
        ),
        *(ModelFiles(f"{CALLERS_PREFIX}{one.served_name}/", _OF_CALLERS) for one in manifests.values()),
    ]


def put_models(tenant: TenantConfig, *, tenant_file: Path, root: Path, terminal: Terminal) -> None:
    """Upload every file that the tenant's manifests name and that a Python package has.

    Raises DeploymentError, and ConfigurationError naming the files that no package has.
    """
    place = place_of(tenant, tenant_file)
    if tenant.models is None:
        raise ConfigurationError(f"{tenant.name} has no [models] section, so there is nothing to upload.")
    aws = AwsAccount(account=place.account, region=place.region)
    aws.require()
    stack = f"{place.name_prefix}-{tenant.name}-Data"
    outputs = aws.outputs(stack)
    if BUCKET_OUTPUT not in outputs:
        raise DeploymentError(f"{stack} is not deployed yet. Run assistant deploy first.")
    if PUBLISHER_OUTPUT not in outputs:
        raise DeploymentError(
            f"{stack} has no publisher's role: name a role in deployment.artifact_publishers, and deploy."
        )
    wanted = model_files(tenant.models, folder=root / "model_artifacts")
    keys = [f"{each.prefix}{name}" for each in wanted for name in each.files]
    with tempfile.TemporaryDirectory() as folder:
        packaged = {name: path for task in _TASKS for name, path in _packaged_files(task, Path(folder))}
        found = {key: packaged[_without_name(key)] for key in keys if _without_name(key) in packaged}
        _upload(aws, outputs, found, terminal)
    if absent := [key for key in keys if key not in found]:
        raise ConfigurationError(
            "No Python package contains these files. Build them and upload them as the publisher "
            f"(model_artifacts/README.md): {', '.join(absent)}"
        )


def _upload(
    aws: AwsAccount, outputs: Mapping[str, str], files: Mapping[str, Path], terminal: Terminal
) -> None:
    bucket = outputs[BUCKET_OUTPUT]
    try:
        given = boto3.client("sts", region_name=aws.region).assume_role(
            RoleArn=outputs[PUBLISHER_OUTPUT], RoleSessionName="artifacts"
        )["Credentials"]
        session = cast("Any", boto3).Session(
            aws_access_key_id=given["AccessKeyId"],
            aws_secret_access_key=given["SecretAccessKey"],
            aws_session_token=given["SessionToken"],
            region_name=aws.region,
        )
        s3 = session.client("s3")
        for key, path in files.items():
            s3.upload_file(str(path), bucket, key)
            terminal.step(f"s3://{bucket}/{key}")
    except (ClientError, BotoCoreError) as error:
        raise DeploymentError(f"Cannot upload the model artifacts to {bucket}: {error}") from None


def _packaged_files(task: str, folder: Path) -> Iterator[tuple[str, Path]]:
    """Yield the files of a packaged model by ``KIND/DIGEST/FILE``, and its callers' by their key."""
    from assistant.model_server.artifact import ensure_artifact
    from assistant.model_server.weights import locate_weights

    settings = ModelServerSettings(task=task, artifacts_dir=folder)  # type: ignore[arg-type]
    weights = locate_weights(settings)
    path, digest = weights.path, weights.digest()
    for file in [path] if path.is_file() else sorted(each for each in path.rglob("*") if each.is_file()):
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
