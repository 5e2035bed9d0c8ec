"""``assistant models candidates | try``: models of JumpStart, from an id to a manifest.

    candidates --region R   fills rows of jumpstart.lock.toml from JumpStart's bucket
    try ID                  a throw-away endpoint of a row, for assistant evaluate --model endpoint:NAME
    candidates --adopt ID   model_artifacts/TASK/ID/manifest.toml, which a tenant file may name

The machine that runs ``candidates`` and ``try`` must reach AWS: the tenant's VPC is closed, and an endpoint
in it reads only the tenant's own bucket, so ``try`` first copies an artifact there through this machine.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import ValidationError
from typer import Argument, Option

from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError, DeploymentError
from assistant.options.models_lab import jumpstart
from assistant.options.models_lab.commands import sagemaker_jobs
from assistant.options.models_lab.jumpstart import (
    LOCK_FILE,
    Candidate,
    CandidateLock,
    Facts,
    Listed,
    TrialPlace,
)
from assistant.tenant import manifests as model_artifacts
from assistant.tenant.prices import load_prices
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal, table

if TYPE_CHECKING:
    from assistant.terminal.account import AwsAccount

_KINDS = {"Endpoint": "endpoint", "EndpointConfig": "endpoint_config", "Model": "model"}
"""Name in the API = name in boto3's calls, in the order in which they are deleted."""
_RETRIES = {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
"""The most that EventBridge Scheduler takes: SageMaker deletes no endpoint that is still Creating."""
_SYSTEM_GB = 30
"""Disk of a trial's instance beside twice the weights."""
_IMAGES = {"llm": "llm_gpu", "embedding": "embedding_tei_cpu"}
"""Task = the image of ``images.lock.toml`` by which the stacks serve an adopted model, in place of the image
that JumpStart names."""


def candidates(
    context: typer.Context,
    region: Annotated[
        str | None, Option(metavar="R", help="Fill rows from this region's JumpStart bucket.")
    ] = None,
    adopt: Annotated[
        str | None, Option("--adopt", metavar="ID", help=f"Id of a resolved row of {LOCK_FILE}.")
    ] = None,
    sequence_length: Annotated[
        int, Option(min=256, metavar="N", help="--adopt, LLM: tokens of a stream.")
    ] = 8192,
    batch_size: Annotated[int, Option(min=1, metavar="N", help="--adopt, LLM: streams at a time.")] = 8,
    pooling: Annotated[
        Literal["mean", "cls"] | None, Option(help="--adopt, embedder: as its model card says.")
    ] = None,
) -> None:
    """List the candidates; with --region write what JumpStart says of them into the lock; with --adopt write
    the manifest of one, by which a tenant file can name it."""
    options, terminal = GlobalOptions.of(context), Terminal()
    path, failed = _root(options) / LOCK_FILE, list[str]()
    lock = jumpstart.load_candidates(path)
    if region is not None:
        found, failed = _read_rows(lock.candidate, region)
        jumpstart.write_facts(path, found)
        lock = jumpstart.load_candidates(path)
    if adopt is not None:
        _adopt(path.parent, adopt, sequence_length, batch_size, pooling)
    elif not options.writes(lock):
        _show_candidates(terminal, lock, path.parent / "model_artifacts")
    for line in failed:
        terminal.warn(line, "bold red")
    if failed:
        raise typer.Exit(1)


def _show_candidates(terminal: Terminal, lock: CandidateLock, folder: Path) -> None:
    """Print the rows of the lock as a table, with the price of each one's instance where it is known, and how
    long the parts of JumpStart's image are supported. ``folder``: ``model_artifacts``."""
    prices, rows = load_prices(), list[Sequence[str]]()
    compatibility = model_artifacts.load_compatibility(folder / "compatibility.toml")
    for row in lock.candidate:
        served, card = row.served, row.facts or row.card
        how_served = ("", "", "", "")
        if served is not None:
            price = prices.endpoint.get(served.instance)
            usd, until = f"{price.usd:.2f}" if price else "", compatibility.until(served.image)
            how_served = (served.version, served.instance, usd, until)
        licence = card.licence if card else ""
        rows.append((row.id, row.task, row.family, row.state, *how_served, licence, row.purpose))
    headings = ("id", "task", "family", "state", "version", "instance", "USD/h", "supported until", "licence")
    terminal.out.print(table(*headings, "purpose", rows=rows))


def _read_rows(rows: Sequence[Candidate], region: str) -> tuple[dict[str, Facts], list[str]]:
    """Return what the region's JumpStart bucket says of each row, by id, and a line for each row that it
    refused."""
    from assistant.terminal.account import AwsAccount

    aws = AwsAccount(account="", region=region)
    manifest = _read(aws, jumpstart.MANIFEST_KEY)
    found, failed = dict[str, Facts](), list[str]()
    for row in rows:
        try:
            body = _read(aws, jumpstart.newest(manifest, row.id).spec_key)
            spec = jumpstart.Specification(body, region=region, instance=row.instance)
            objects = _listed(aws, spec.prefix)
            has_config = any(listed.key == "config.json" for listed in objects)
            config = _read(aws, f"{spec.prefix}config.json") if has_config else b"{}"
            found[row.id] = spec.facts(objects, config)
        except AssistantError as error:
            failed.append(f"{row.id}: {error.message}")
    return found, failed


def _root(options: GlobalOptions) -> Path:
    """Return the checkout: the folder above that of the tenant files."""
    return options.tenants_dir.resolve().parent


def _read(aws: AwsAccount, key: str) -> bytes:
    """Return an object of the region's JumpStart bucket. Raises DeploymentError."""
    from assistant.terminal.account import aws_errors

    bucket = jumpstart.content_bucket(aws.region)
    body = aws.call("s3", "get_object", Bucket=bucket, Key=key)["Body"]
    with aws_errors("s3", "get_object"):
        return bytes(body.read())


def _listed(aws: AwsAccount, prefix: str) -> list[Listed]:
    """Return the files below a folder of the region's JumpStart bucket."""
    bucket = jumpstart.content_bucket(aws.region)
    objects = aws.listed("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    return [
        Listed(key=file["Key"].removeprefix(prefix), size_bytes=file["Size"], etag=file["ETag"].strip('"'))
        for file in objects
        if not file["Key"].endswith("/")
    ]


# --- try --------------------------------------------------------------------------------------------------
def try_(
    context: typer.Context,
    candidate: Annotated[str, Argument(metavar="ID", help=f"Id of a row of {LOCK_FILE}.")],
    tenant: Tenant,
    hours: Annotated[float, Option(min=0.5, max=8, metavar="N", help="Then it is deleted.")] = 1.0,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask whether it may cost this.")] = False,
) -> None:
    """Deploy a candidate to a throw-away endpoint, whose deletion is scheduled before it is made."""
    from assistant.terminal.account import Deployed, require_quota

    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    deployed = Deployed.named(options, tenant)
    row, facts = jumpstart.load_candidates(_root(options) / LOCK_FILE).usable(candidate)
    if facts.region != (region := deployed.place.region):
        raise ConfigurationError(
            f"{candidate} was resolved in {facts.region}, and {tenant} is in {region}. Run: "
            f"assistant models candidates --region {region}"
        )
    compatibility = model_artifacts.load_compatibility(
        _root(options) / "model_artifacts" / "compatibility.toml"
    )
    for part in compatibility.ending(facts.image, today=datetime.now(UTC).date()):
        terminal.warn(f"{part}.", "yellow")
    instance = model_artifacts.instance_named(facts.instance)
    price = load_prices().of("endpoint", instance.name).usd_per_hour
    lacks = "roles for it: write [models_lab] trials = true"
    place_json = deployed.output("Models", jumpstart.TRIAL_OUTPUT, lacks=lacks)
    require_quota(deployed.aws, f"{instance.name} for endpoint usage")
    sagemaker_jobs.require_sdk(_root(options))
    cost = f"USD {price:.2f} an hour, {price * hours:.2f} in {hours:g} h"
    terminal.show(f"{row.id} on {instance.name}: {cost} (list price).")
    if not yes:
        typer.confirm("Make the endpoint?", abort=True, err=True)
    place = TrialPlace.model_validate_json(place_json)
    trial = Trial(deployed.aws, place, row, facts, tenant, _root(options), datetime.now(UTC))
    trial.copy(deployed.publisher(), terminal)
    ends_at = datetime.now(UTC) + timedelta(hours=hours)  # after the copy: 16 GB may take an hour
    trial = replace(trial, ends_at=ends_at)
    with terminal.waiting("making the endpoint"):
        name = trial.start()
    if not options.writes({"endpoint": name, "deleted_at": ends_at.isoformat()}):
        terminal.show(f"{name} is being made; it is deleted at {ends_at:%Y-%m-%d %H:%M} UTC. Compare it:")
        terminal.show(f"  aws sagemaker wait endpoint-in-service --endpoint-name {name} --region {region}")
        terminal.show(f"  assistant evaluate --tenant {tenant} --model endpoint:{name} --model …")


@dataclass(frozen=True, slots=True)
class Trial:
    """One throw-away endpoint. ``copy`` comes first, then ``start``.

    A tenant has a few names of endpoints (``TrialPlace.endpoints``). The schedule of its deletion is a name's
    lock: whoever creates the schedule has the name until it is deleted.
    """

    aws: AwsAccount
    place: TrialPlace
    row: Candidate
    facts: Facts
    """Of ``row``."""
    tenant: str
    root: Path
    """The checkout, with ``model_artifacts/jobs.py``."""
    ends_at: datetime
    """When the endpoint is deleted."""

    @property
    def prefix(self) -> str:
        """Prefix of the artifact in the models bucket: where the stack also looks once the row is adopted."""
        return f"{self.row.task}/{self.row.id}/{self.facts.listing_sha256}/"

    def copy(self, publisher: Any, terminal: Terminal) -> None:
        """Copy the artifact into the tenant's bucket, through this machine; what is there stays.

        Raises DeploymentError when JumpStart's files are no longer those of the lock.
        """
        from assistant.terminal.account import aws_errors

        theirs = jumpstart.content_bucket(self.aws.region)
        folder = self.facts.artifact.removeprefix(f"s3://{theirs}/")
        objects = _listed(self.aws, folder)
        if jumpstart.listing_sha256(objects) != self.facts.listing_sha256:
            raise DeploymentError(
                f"{self.facts.artifact} has other files than {LOCK_FILE} says. Resolve the row again: "
                f"assistant models candidates --region {self.aws.region}"
            )
        with aws_errors("s3", "copy"):
            pages = publisher.get_paginator("list_objects_v2")
            copied = pages.paginate(Bucket=self.place.bucket, Prefix=self.prefix).build_full_result()
            sizes = {file["Key"]: file["Size"] for file in copied.get("Contents", ())}
            for file in objects:
                key, source = f"{self.prefix}{file.key}", f"{folder}{file.key}"
                if sizes.get(key) == file.size_bytes:
                    continue
                response = self.aws.call("s3", "get_object", Bucket=theirs, Key=source, IfMatch=file.etag)
                publisher.upload_fileobj(response["Body"], self.place.bucket, key)
                terminal.step(f"s3://{self.place.bucket}/{key}")

    def start(self) -> str:
        """Schedule the deletion and begin to make the endpoint; return its name.

        Whatever fails, what was made is removed. Raises DeploymentError.
        """
        names = self.place.endpoints
        # The first name whose deletion is not scheduled yet: scheduling it takes the name.
        name = next((free for free in names if self._schedule("Endpoint", free, self.ends_at)), None)
        if name is None:
            raise DeploymentError(f"{', '.join(names)} are in use: wait until one is deleted.")
        try:
            for kind in ("EndpointConfig", "Model"):  # they cost nothing, and an endpoint may need them
                self._schedule(kind, name, self.ends_at + timedelta(hours=1))
            sagemaker_jobs.start("endpoint", self.order(name), region=self.aws.region, root=self.root)
        except BaseException:
            self._remove(name)
            raise
        return name

    def _schedule(self, kind: str, name: str, at: datetime) -> bool:
        """Schedule a deletion, of a ``kind`` as ``_KINDS`` has it; return False where one is scheduled
        already.

        The target is any action of an AWS API that changes something, by the SDK's names; ``Input`` is the
        call's JSON: EventBridge Scheduler user guide, "Using universal targets".
        """
        target = {
            "Arn": f"arn:{self.place.role_arn.split(':')[1]}:scheduler:::aws-sdk:sagemaker:delete{kind}",
            "RoleArn": self.place.clean_up_role_arn,
            "Input": json.dumps({f"{kind}Name": name}),
            "RetryPolicy": _RETRIES,
        }
        created = self.aws.call(
            "scheduler",
            "create_schedule",
            missing="ConflictException",
            Name=f"{name}-{kind}",
            ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target=target,
        )
        return created is not None

    def order(self, name: str) -> dict[str, Any]:
        """Return what ``sagemaker_jobs.start`` is given. ``name``: of endpoint, configuration and model."""
        place, instance = self.place, model_artifacts.instance_named(self.facts.instance)
        machine: dict[str, Any] = {"instance_type": instance.name}
        if not instance.has_local_disk:  # such a disk takes neither size nor key
            machine["volume_size_in_gb"] = _SYSTEM_GB + round(2 * self.facts.weights_bytes / 1e9)
        return {
            "name": name,
            "role_arn": place.role_arn,
            "container": {"image": self.facts.image, "environment": dict(self.facts.environment)},
            "vpc_config": {"subnets": place.subnets, "security_group_ids": [place.security_group]},
            "model_data": f"s3://{place.bucket}/{self.prefix}",
            "machine": machine,
            "disk_key": {} if instance.has_local_disk else {"kms_key_id": place.key_arn},
            "tags": {"tenant": self.tenant, "candidate": self.row.id},
        }

    def _remove(self, name: str) -> None:
        """Delete all that there is of a trial, its schedules last: where a deletion is refused, they stay.

        Raises DeploymentError.
        """
        try:
            for kind, call in _KINDS.items():
                key = {f"{kind}Name": name}
                if self.aws.call("sagemaker", f"describe_{call}", missing="ValidationException", **key):
                    self.aws.call("sagemaker", f"delete_{call}", **key)
            for kind in _KINDS:
                gone = "ResourceNotFoundException"
                self.aws.call("scheduler", "delete_schedule", missing=gone, Name=f"{name}-{kind}")
        except DeploymentError as error:
            raise DeploymentError(
                f"{name} failed and cannot be deleted now ({error.message}). Its deletion is scheduled for "
                f"{self.ends_at:%Y-%m-%d %H:%M} UTC and retried for a day. Look: aws sagemaker "
                f"describe-endpoint --endpoint-name {name}"
            ) from None


# --- adopt ------------------------------------------------------------------------------------------------
def _adopt(
    root: Path, candidate: str, sequence_length: int, batch_size: int, pooling: Literal["mean", "cls"] | None
) -> None:
    """Write ``model_artifacts/TASK/ID/manifest.toml`` of a row, and say what is left to do.

    Raises ConfigurationError where the manifest lacks a value or does not fit its instance, ConflictError
    where there is a manifest with a hash already.
    """
    import tomlkit

    terminal = Terminal()
    row, served, card, sha256 = jumpstart.load_candidates(root / LOCK_FILE).adoptable(candidate)
    folder, shape = root / "model_artifacts", card.architecture
    compatibility = model_artifacts.load_compatibility(folder / "compatibility.toml")
    compatible = next(line for line in compatibility.row if line.image == _IMAGES[row.task])
    values: dict[str, Any] = {
        "schema_version": 1,
        "name": row.id,
        "model": row.model,
        "licence": card.licence,
        "revision": f"{row.id}=={served.version}",
        "sha256": sha256,
        "files": card.files,
        "image": compatible.image,
        "accelerator": compatible.accelerators[0],
        "ami": compatible.ami,
        "sdk": compatible.sdk,
        "dtype": shape.dtype,
        "weights_bytes": card.weights_bytes,
    }
    try:
        if row.task == "llm":
            values |= shape.model_dump(include={"layers", "kv_heads", "head_size"})
            values["sequence_length"] = min(sequence_length, shape.max_tokens or sequence_length)
            values |= {
                "continuous_batching": True,
                "batch_size": batch_size,
                "tensor_parallel": served.accelerators or 1,
                "answering": {},
            }
            # The number of parameters: the weights by the bytes of one.
            values["parameters"] = card.weights_bytes // (4 if shape.dtype == "float32" else 2)
            manifest = model_artifacts.LlmManifest.model_validate(values)
            model_artifacts.check_llm_fit(manifest, model_artifacts.instance_named(served.instance))
        else:
            values |= {"dimensions": shape.hidden_size, "max_tokens": shape.max_tokens, "pooling": pooling}
            manifest = model_artifacts.EmbeddingManifest.model_validate(values)
    except ValidationError as error:
        missing = ", ".join(str(fault["loc"][0]) for fault in error.errors())
        raise ConfigurationError(
            f"{candidate}: JumpStart's files do not say {missing}. Give it by an option, or write the "
            "manifest by hand (model_artifacts/README.md)."
        ) from None
    path = folder / row.task / row.id / "manifest.toml"
    if path.exists() and "sha256" in tomlkit.parse(path.read_text()):
        raise ConflictError(f"{path} exists already. Delete it first, to write it again.")
    path.parent.mkdir(parents=True, exist_ok=True)
    head = f"# Adopted from {LOCK_FILE}. sha256 is that of the listing of {served.artifact}.\n"
    path.write_text(head + tomlkit.dumps(manifest.model_dump(mode="json", exclude_none=True)))
    terminal.show(f"Wrote {path}. It serves where a tenant file names {row.id} under [models].")
    if sha256 is None:
        command = f"assistant models candidates --region {served.region} --adopt {row.id}"
        terminal.say(f"it has no hash yet, so a deployment stops; where JumpStart is reached run: {command}")
    if row.task == "llm":
        terminal.say("it quotes until you set answering.writes_answers = true; compare it first")
