"""``assistant models compile``: a compile job, and its artifact's way to the endpoints.

A job (``containers/compile_job/compile.py``) writes below ``compiled/`` of the tenant's models bucket:

    compiled/JOB/output/model/artifact.json   {"sha256": "9f3c…", "files": {"model.pt": "51ab…", …}, …}
    compiled/JOB/output/model/artifact/…      the files

``--promote`` reads every file again, compares it with the hash in ``artifact.json``, copies it to
``llm/<name>/<sha256>/``, and writes the manifest last.
"""
# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false, reportUnknownArgumentType=false

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer import Argument, Option

from assistant.domain.errors import ConfigurationError, ConflictError, DeploymentError
from assistant.options.models_lab.commands import sagemaker_jobs
from assistant.tenant import manifests as artifacts
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal

if TYPE_CHECKING:
    from assistant.terminal.account import Deployed

_ENTRY = Path("containers/compile_job/compile.py")
_COMPILED_FROM = {
    *("name", "files", "accelerator", "dtype", "batch_size", "sequence_length", "tensor_parallel"),
    *("continuous_batching", "chat_template", "revision"),
}
"""Fields of the manifest that a job compiles from, or compares its result with."""
_MACHINE = "ml.trn1.32xlarge"
"""What a training job compiles on: Inferentia2 runs none. Nobody measured yet whether the 32 GiB of
ml.trn1.2xlarge's host do for 8B in 16 bits."""
PROMOTE = "Check what a job made, copy it to where endpoints read, write its hash into the manifest."


def compile_(
    context: typer.Context,
    name: Annotated[str, Argument(metavar="NAME", help="Folder below model_artifacts/llm.")],
    tenant: Tenant,
    promote: Annotated[str | None, Option(metavar="JOB", help=PROMOTE)] = None,
) -> None:
    """Compile a language model for Inferentia2 or Trainium, by a training job with the serving image."""
    options, terminal = GlobalOptions.of(context), Terminal()
    compiling = _open(options, name, tenant)
    if promote is not None:
        sha256 = compiling.promote(promote)
        if not options.writes({"name": name, "sha256": sha256}):
            terminal.show(f"{name} = {sha256}. Review and commit its manifest.toml, then deploy.")
        return
    job = compiling.start()
    if not options.writes({"job": job}):
        region = compiling.deployed.place.region
        waiter = f"aws sagemaker wait training-job-completed-or-stopped --training-job-name {job}"
        terminal.show(f"{waiter} --region {region}")
        terminal.show(f"assistant models compile {name} --tenant {tenant} --promote {job}")


@dataclass(frozen=True, slots=True)
class _Compiling:
    """An artifact, and the tenant in whose account it is compiled."""

    manifest: artifacts.LlmManifest
    folder: Path
    """Folder of the manifest, ``model_artifacts/llm/NAME``: three folders up is the checkout."""
    deployed: Deployed

    def start(self) -> str:
        """Start a job, and return its name: "compile-pharmacy-qwen3-8b-inf2-261018-091403". Raises
        ConfigurationError, DeploymentError before it costs anything."""
        from assistant.terminal.account import aws_errors, require_quota

        where = "in deployment.artifact_publishers, in a region that has the image"
        lacks = f"role to compile with: name a role {where}"
        shared_json = self.deployed.output("Data", artifacts.COMPILE_OUTPUT, lacks=lacks)
        image, entry = self._image(), self.folder.parents[2] / _ENTRY
        require_quota(self.deployed.aws, f"{_MACHINE} for training job usage")
        bucket, s3 = self.deployed.models_bucket(), self.deployed.publisher()
        with aws_errors("s3", "the weights or the entry"):
            channels = {"weights": self._weights(s3, bucket), "entry": self._put(s3, bucket, entry)}
        compiled = f"compile-{self.deployed.config.name}-{self.manifest.name}"
        name = re.sub(r"[^a-z0-9]+", "-", compiled) + f"-{datetime.now(UTC):%y%m%d-%H%M%S}"
        order = self.order(json.loads(shared_json), name=name, image=image) | {
            "channels": {channel: f"s3://{bucket}/{key}" for channel, key in channels.items()}
        }
        region = self.deployed.place.region
        sagemaker_jobs.start("training_job", order, region=region, root=self.folder.parents[2])
        return name

    def order(self, shared: Mapping[str, Any], *, name: str, image: str) -> dict[str, Any]:
        """Return what ``sagemaker_jobs.start`` is given, without the channels. ``shared``: what all requests
        share, as the stack's output has it (``stack/models.py``)."""
        entry = f"/opt/ml/input/data/entry/{_ENTRY.name}"
        return {
            "shared": shared,
            "name": name,
            "container": {"training_image": image, "container_entrypoint": ["python3", entry]},
            "instance": _MACHINE,
            "has_local_disk": artifacts.instance_named(_MACHINE).has_local_disk,
            "is_spot": False,
            "hyperparameters": {"manifest": json.dumps(self.wanted())},
        }

    def wanted(self) -> dict[str, Any]:
        """Return the hyperparameter ``manifest`` of the job, in the types of JSON: what it compiles, and what
        it compares its result with. ``promote`` refuses a job that had another one."""
        return self.manifest.model_dump(mode="json", include=_COMPILED_FROM)

    def promote(self, name: str) -> str:
        """Copy what a job made to where endpoints read, and register it in the manifest; return its hash. A
        second time nothing changes.

        Raises ConflictError or DeploymentError; the manifest is then unchanged.
        """
        from assistant.terminal.account import aws_errors

        job = self.deployed.aws.call("sagemaker", "describe_training_job", TrainingJobName=name)
        if (status := job["TrainingJobStatus"]) != "Completed":
            reason = job.get("FailureReason", "no reason told")
            raise DeploymentError(f"{name} is {status}: {reason}. Nothing is promoted.")
        compiled = json.loads(job.get("HyperParameters", {}).get("manifest", "{}"))
        wanted = self.wanted()
        if changed := [name for name, value in wanted.items() if compiled.get(name) != value]:
            raise ConflictError(
                f"{name} compiled another {', '.join(changed)} than the manifest has now. Compile again."
            )
        with aws_errors("s3", "promote"):
            # "s3://BUCKET/compiled/JOB/…/": the key after the bucket
            sha256 = self._copy(job["ModelArtifacts"]["S3ModelArtifacts"].split("/", 3)[3])
        digest = job["AlgorithmSpecification"]["TrainingImage"].partition("@")[2]
        artifacts.write_artifact(self.folder, sha256=sha256, image_digest=digest)
        return sha256

    def _copy(self, prefix: str) -> str:
        """Check and copy the files below a job's output, whose key is ``prefix``; return the artifact's hash.
        Nothing is copied before every file was read and has its hash."""
        from assistant.terminal.publishing import stored_sha256

        bucket, s3, manifest = self.deployed.models_bucket(), self.deployed.publisher(), self.manifest
        artifact = json.loads(s3.get_object(Bucket=bucket, Key=f"{prefix}artifact.json")["Body"].read())
        sha256, digests = artifact["sha256"], artifact["files"]
        if set(digests) != set(manifest.files) or artifacts.artifact_sha256(digests) != sha256:
            raise DeploymentError(f"{prefix}artifact.json is not about the manifest's files. Compile again.")
        if manifest.sha256 not in (None, sha256):
            raise ConflictError(
                f"{manifest.name} is registered as {manifest.sha256}, and the job made {sha256}. To replace "
                "it, delete sha256 and image_digest from its manifest.toml first."
            )
        etags: dict[str, str] = {}
        for name, digest in digests.items():
            sha256_read, etags[name] = stored_sha256(s3, bucket, f"{prefix}artifact/{name}")
            if sha256_read != digest:
                raise DeploymentError(f"{prefix}artifact/{name} is not what the job wrote. Compile again.")
        for name, etag in etags.items():  # what was read, and no later version
            source = {"Bucket": bucket, "Key": f"{prefix}artifact/{name}"}
            key = f"llm/{manifest.name}/{sha256}/{name}"
            s3.copy(source, bucket, key, ExtraArgs={"CopySourceIfMatch": etag})
        return sha256

    def _image(self) -> str:
        """Return the serving image by its digest, which the manifest will name."""
        from assistant.terminal.publishing import Registry

        name, region = self.manifest.image, self.deployed.place.region
        lock = artifacts.load_images(self.folder.parents[2] / "images.lock.toml")
        if (digest := lock.image(name).digest) is None:
            raise ConfigurationError(
                f"images.lock.toml has no digest of {name}, and an artifact loads only in the image that "
                f"compiled it. Run: make images TO={self.deployed.place.account}/{region} ARGS={name}"
            )
        account = lock.account(name, region=region, own=self.deployed.place.account)
        return f"{Registry(account=account, region=region).host}/{lock.image(name).repository}@{digest}"

    def _weights(self, s3: Any, bucket: str) -> str:
        """Return the prefix of the weights. Raises ConfigurationError where there are none."""
        prefix = f"llm/{self.manifest.name}/weights/{self.manifest.revision}/"
        listed = s3.list_objects_v2(Bucket=bucket, Prefix=f"{prefix}config.json")
        if not listed["KeyCount"]:
            advice = f"Put them, as the publisher: aws s3 sync weights s3://{bucket}/{prefix}"
            raise ConfigurationError(f"There are no weights. {advice}")
        return prefix

    def _put(self, s3: Any, bucket: str, source: Path) -> str:
        """Put the job's entry under its hash; return its prefix."""
        content = source.read_bytes()
        prefix = f"llm/{self.manifest.name}/entry/{hashlib.sha256(content).hexdigest()}/"
        s3.put_object(Bucket=bucket, Key=f"{prefix}{source.name}", Body=content)
        return prefix


def _open(options: GlobalOptions, name: str, tenant: str) -> _Compiling:
    """Return the artifact of a name and its tenant, checked.

    Raises ConfigurationError for an artifact of an accelerator for which nothing is compiled, and for one
    that does not fit its instance (with the sum); DeploymentError for another account's credentials.
    """
    from assistant.terminal.account import Deployed

    folder = options.tenants_dir.resolve().parent / "model_artifacts/llm" / name
    deployed, manifest = Deployed.named(options, tenant), artifacts.LlmManifest.read(folder)
    models = deployed.config.models
    if not manifest.is_compiled:
        raise ConfigurationError(
            f"{name} is for {manifest.accelerator}, for which nothing is compiled ahead."
        )
    of_tenant = models.llm_instance if models and models.llm == name else None
    served_on = artifacts.instance_named(of_tenant or artifacts.DEFAULT_INSTANCES[manifest.accelerator])
    artifacts.check_llm_fit(manifest, served_on)
    deployed.aws.require()
    return _Compiling(manifest, folder, deployed)
