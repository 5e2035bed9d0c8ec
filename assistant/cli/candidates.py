"""``assistant models candidates | try | compare | adopt``: models of SageMaker JumpStart, from an id to a manifest.

The machine that runs ``candidates`` and ``try`` must reach AWS: the tenant's VPC is closed, and an endpoint in
it reads only the tenant's own bucket, so ``try`` copies an artifact there through this machine first.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

import tomlkit
import typer
from pydantic import ValidationError
from typer import Argument, Option

from assistant.answering.services import AnswerWriter
from assistant.cli.account import AwsAccount, aws_errors, low_quotas, place_of
from assistant.cli.evaluate import TenantQuestions, loaded
from assistant.cli.local import behind_gateway, committed, open_services
from assistant.cli.publishing import publisher_s3
from assistant.cli.terminal import GlobalOptions, Tenant, Terminal, pairs_of, table
from assistant.domain.clock import SystemClock
from assistant.domain.errors import AssistantError, ConfigurationError, ConflictError, DeploymentError
from assistant.evaluation.judging import WrittenModel
from assistant.evaluation.questions import draw
from assistant.local.layout import models_dir
from assistant.model_artifacts import model_elsewhere
from assistant.private_files import write_private
from assistant.recorded_model import read_recording
from assistant.settings.jumpstart import (
    LOCK_FILE,
    MANIFEST_KEY,
    TRIAL_OUTPUT,
    Candidate,
    Facts,
    Header,
    Listed,
    Specification,
    TrialPlace,
    content_bucket,
    listing_sha256,
    load_candidates,
    newest,
    read_manifest,
    write_rows,
)
from assistant.settings.local_models import ServedLlm, added_models
from assistant.settings.model_artifacts import (
    AnsweringTable,
    EmbeddingManifest,
    Instance,
    LlmManifest,
    check_llm_fit,
    instance_named,
    load_compatibility,
)
from assistant.settings.prices import load_prices
from assistant.settings.tenant import TenantConfig, load_tenant

_LONGEST_H = 8
_POLL_S = 20.0
_KINDS = ("Endpoint", "EndpointConfig", "Model")
_RETRIES = {"MaximumEventAgeInSeconds": 86_400, "MaximumRetryAttempts": 185}
"""The longest that EventBridge Scheduler allows: an endpoint that is still Creating cannot be deleted."""
_SYSTEM_GB = 30
_RECORDED = "recorded"
CandidateId = Annotated[str, Argument(metavar="ID", help=f"Id of a row of {LOCK_FILE}.")]


def _lock_path(options: GlobalOptions) -> Path:
    return options.tenants_dir.resolve().parent / LOCK_FILE


# --- candidates -------------------------------------------------------------------------------------------
def candidates(
    context: typer.Context,
    region: Annotated[
        str | None, Option(metavar="R", help="Read this region's JumpStart bucket, and fill the rows.")
    ] = None,
    accept_eula: Annotated[
        list[str] | None, Option(metavar="ID", help="Record that its licence agreement is accepted.")
    ] = None,
) -> None:
    """List the candidates; with --region read what JumpStart says of them into the lock."""
    options, terminal = GlobalOptions.of(context), Terminal()
    path = _lock_path(options)
    lock, before = load_candidates(path), path.read_bytes()
    updates: dict[str, dict[str, Any]] = {}
    for name in accept_eula or ():
        if (facts := lock.row(name).facts) is None or facts.eula is None:
            raise ConfigurationError(
                f"{name}: there is no licence agreement to accept, or it is not resolved."
            )
        updates[name] = {"eula_accepted": True}
    failed: list[str] = []
    if region is not None:
        aws = AwsAccount(account="", region=region)
        headers = read_manifest(_read(aws, MANIFEST_KEY))
        for row in lock.candidate:
            try:
                facts = _resolve(aws, row, headers)
            except AssistantError as error:
                failed.append(f"{row.id}: {error.message}")
                continue
            updates.setdefault(row.id, {}).update(
                resolved=True, facts=facts.model_dump(mode="json", exclude_none=True)
            )
    if updates:
        write_rows(path, before, updates)
        lock = load_candidates(path)
    if not options.writes(lock):
        shown = [
            (row.id, row.task, row.family, *_told(row), row.purpose)
            for row in lock.candidate
        ]  # fmt: skip
        terminal.out.print(
            table("id", "task", "family", "version", "licence", "instance", "purpose", rows=shown)
        )
    for line in failed:
        terminal.warn(line, "bold red")
    if failed:
        raise typer.Exit(1)


def _told(row: Candidate) -> tuple[str, str, str]:
    facts = row.facts
    if facts is None:
        return "unresolved", "", row.instance or ""
    return facts.version, facts.licence, facts.instance


def _read(aws: AwsAccount, key: str) -> bytes:
    body = aws.call("s3", "get_object", Bucket=content_bucket(aws.region), Key=key)["Body"]
    with aws_errors("s3", "get_object"):
        return bytes(body.read())


def _resolve(aws: AwsAccount, row: Candidate, headers: Sequence[Header]) -> Facts:
    header = newest(headers, row.id)
    spec = Specification(_read(aws, header.spec_key), region=aws.region, instance=row.instance)
    objects = _listed(aws, spec.prefix)
    has_config = any(each.key == "config.json" for each in objects)
    return spec.facts(objects, _read(aws, f"{spec.prefix}config.json") if has_config else None)


def _listed(aws: AwsAccount, prefix: str) -> list[Listed]:
    bucket = content_bucket(aws.region)
    found = aws.listed("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=prefix)
    return [
        Listed(key=each["Key"].removeprefix(prefix), size_bytes=each["Size"], etag=each["ETag"].strip('"'))
        for each in found
        if not each["Key"].endswith("/")
    ]


# --- try --------------------------------------------------------------------------------------------------
def try_(
    context: typer.Context,
    candidate: CandidateId,
    tenant: Tenant,
    hours: Annotated[
        float, Option(min=0.5, max=_LONGEST_H, metavar="N", help="Until the endpoint is deleted.")
    ] = 1.0,
    yes: Annotated[bool, Option("--yes", "-y", help="Do not ask whether it may cost this.")] = False,
) -> None:
    """Deploy a candidate to a throw-away endpoint, whose deletion is scheduled before it is made."""
    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    file = options.tenants_dir / f"{tenant}.toml"
    place = place_of(load_tenant(file), file)
    row, facts = load_candidates(_lock_path(options)).usable(candidate)
    if facts.region != place.region:
        raise ConfigurationError(
            f"{candidate} was resolved in {facts.region}, and {tenant} is in {place.region}. Run: "
            f"assistant models candidates --region {place.region}"
        )
    instance = instance_named(facts.instance)
    price = load_prices().of("endpoint", instance.name).usd_per_hour
    aws = AwsAccount(account=place.account, region=place.region)
    aws.require()
    for finding in low_quotas(aws, "sagemaker", {f"{instance.name} for endpoint usage": 1}):
        raise DeploymentError(finding.said)
    stacks = f"{place.name_prefix}-{tenant}"
    given = aws.outputs(f"{stacks}-Models").get(TRIAL_OUTPUT)
    if given is None:
        raise DeploymentError(
            f"{stacks}-Models has no roles for it: write trials = true under [models], deploy."
        )
    terminal.show(
        f"{row.id} on {instance.name}: USD {price:.2f} an hour, {price * hours:.2f} in {hours:g} h (list price)."
    )
    if not yes:
        typer.confirm("Make the endpoint?", abort=True, err=True)
    trial = Trial(
        aws=aws,
        place=TrialPlace.model_validate_json(given),
        row=row,
        facts=facts,
        instance=instance,
        tags=[{"Key": "tenant", "Value": tenant}, {"Key": "candidate", "Value": row.id}],
        ends_at=datetime.now(UTC) + timedelta(hours=hours),
    )
    trial.copy(publisher_s3(aws, aws.outputs(f"{stacks}-Data")), terminal)
    with terminal.waiting("making the endpoint"):
        name = trial.start()
    if not options.writes({"endpoint": name, "deleted_at": trial.ends_at.isoformat()}):
        terminal.show(f"{name} answers until {trial.ends_at:%Y-%m-%d %H:%M} UTC. Compare it:")
        terminal.show(
            f"  assistant models compare {_RECORDED} endpoint:{name} --tenant {tenant} "
            f"--usd-per-hour endpoint:{name}={price:g}"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One throw-away endpoint. The schedule of its deletion is also its lock: one trial has a name at a time."""

    aws: AwsAccount
    place: TrialPlace
    row: Candidate
    facts: Facts
    instance: Instance
    tags: Sequence[Mapping[str, str]]
    ends_at: datetime
    poll_s: float = _POLL_S

    @property
    def prefix(self) -> str:
        """Of the artifact in the models bucket: where the stack also looks once the row is adopted."""
        return f"{self.row.task}/{self.row.id}/{self.facts.listing_sha256}/"

    def copy(self, publisher: Any, terminal: Terminal) -> None:
        """Copy the artifact into the tenant's bucket, through this machine; what is there stays.

        Raises DeploymentError when JumpStart's files are no longer those of the lock.
        """
        theirs = self.facts.artifact.removeprefix(f"s3://{content_bucket(self.aws.region)}/")
        bucket = self.place.bucket
        objects = _listed(self.aws, theirs)
        if listing_sha256(objects) != self.facts.listing_sha256:
            raise DeploymentError(
                f"{self.facts.artifact} has other files than {LOCK_FILE} says. Resolve the row again: "
                f"assistant models candidates --region {self.aws.region}"
            )
        with aws_errors("s3", "copy"):
            pages = publisher.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=self.prefix)
            there = {each["Key"]: each["Size"] for page in pages for each in page.get("Contents", ())}
            for each in objects:
                key = f"{self.prefix}{each.key}"
                if there.get(key) != each.size_bytes:
                    source = {"Bucket": content_bucket(self.aws.region), "Key": f"{theirs}{each.key}"}
                    body = self.aws.call("s3", "get_object", IfMatch=each.etag, **source)["Body"]
                    publisher.upload_fileobj(body, bucket, key)
                    terminal.step(f"s3://{bucket}/{key}")

    def start(self) -> str:
        """Schedule the deletion, make the endpoint and wait until it answers; return its name.

        Whatever fails, what was made is removed. Raises DeploymentError.
        """
        free = (name for name in self.place.endpoints if self._schedule("Endpoint", name, self.ends_at))
        name = next(free, None)
        if name is None:
            raise DeploymentError(
                f"{', '.join(self.place.endpoints)} are all in use: wait until one is deleted."
            )
        try:
            for kind in _KINDS[1:]:  # they cost nothing, and must outlive the endpoint's deletion
                self._schedule(kind, name, self.ends_at + timedelta(hours=1))
            self._make(name)
            self._wait(name)
        except BaseException:
            self._remove(name)
            raise
        return name

    def _schedule(self, kind: str, name: str, at: datetime) -> bool:
        """Schedule a deletion; False where one is scheduled already.

        Any action of the API that changes something can be a target: EventBridge Scheduler user guide, "Using
        universal targets" (service and action as in the SDK, ``Input`` the call's JSON).
        """
        partition = self.place.role_arn.split(":")[1]
        made = self.aws.call(
            "scheduler",
            "create_schedule",
            missing="ConflictException",
            Name=f"{name}-{kind}",
            ScheduleExpression=f"at({at:%Y-%m-%dT%H:%M:%S})",
            ScheduleExpressionTimezone="UTC",
            FlexibleTimeWindow={"Mode": "OFF"},
            ActionAfterCompletion="DELETE",
            Target={
                "Arn": f"arn:{partition}:scheduler:::aws-sdk:sagemaker:delete{kind}",
                "RoleArn": self.place.clean_up_role_arn,
                "Input": json.dumps({f"{kind}Name": name}),
                "RetryPolicy": _RETRIES,
            },
        )
        return made is not None

    def _make(self, name: str) -> None:
        place, disk = self.place, self.instance.has_local_disk
        source = {
            "S3Uri": f"s3://{place.bucket}/{self.prefix}",
            "S3DataType": "S3Prefix",
            "CompressionType": "None",
        }
        self.aws.call(
            "sagemaker",
            "create_model",
            ModelName=name,
            ExecutionRoleArn=place.role_arn,
            EnableNetworkIsolation=True,
            PrimaryContainer={
                "Image": self.facts.image,
                "Environment": dict(self.facts.environment),
                "ModelDataSource": {"S3DataSource": source},
            },
            VpcConfig={"Subnets": list(place.subnets), "SecurityGroupIds": [place.security_group]},
            Tags=self.tags,
        )
        variant: dict[str, Any] = {
            "VariantName": "AllTraffic",
            "ModelName": name,
            "InstanceType": self.instance.name,
            "InitialInstanceCount": 1,
            "ModelDataDownloadTimeoutInSeconds": 1800,
            "ContainerStartupHealthCheckTimeoutInSeconds": 3600,
        }
        if not disk:  # a local disk has neither size nor key to choose
            variant["VolumeSizeInGB"] = _SYSTEM_GB + round(2 * self.facts.weights_bytes / 1e9)
        key = {} if disk else {"KmsKeyId": place.key_arn}
        config = {"EndpointConfigName": name, "ProductionVariants": [variant], "Tags": self.tags}
        self.aws.call("sagemaker", "create_endpoint_config", **config, **key)
        self.aws.call(
            "sagemaker", "create_endpoint", EndpointName=name, EndpointConfigName=name, Tags=self.tags
        )

    def _wait(self, name: str) -> None:
        while True:
            found = self.aws.call("sagemaker", "describe_endpoint", EndpointName=name)
            if (status := found["EndpointStatus"]) == "InService":
                return
            if status != "Creating" or datetime.now(UTC) >= self.ends_at:
                raise DeploymentError(f"{name} is {status}: {found.get('FailureReason', 'no reason given')}")
            time.sleep(self.poll_s)

    def _remove(self, name: str) -> None:
        """Delete all that there is of a trial, its schedules last. Raises DeploymentError; the schedules then
        stay."""
        try:
            for kind, call in zip(_KINDS, ("endpoint", "endpoint_config", "model"), strict=True):
                key = {f"{kind}Name": name}
                if self.aws.call("sagemaker", f"describe_{call}", missing="ValidationException", **key):
                    self.aws.call("sagemaker", f"delete_{call}", **key)
            for kind in _KINDS:
                gone = "ResourceNotFoundException"
                self.aws.call("scheduler", "delete_schedule", missing=gone, Name=f"{name}-{kind}")
        except DeploymentError as error:
            raise DeploymentError(
                f"{name} failed and cannot be deleted now ({error.message}). Its deletion is scheduled for "
                f"{self.ends_at:%Y-%m-%d %H:%M} UTC and is tried again for a day: aws sagemaker "
                f"describe-endpoint --endpoint-name {name}"
            ) from None


# --- compare ----------------------------------------------------------------------------------------------
COMPARED = (
    "Two or more: the first is what others are held against. An added model, recorded (the committed answers "
    "of a strong model), endpoint:NAME of the tenant's account, or a chat server's URL#MODEL."
)


def compare(
    context: typer.Context,
    names: Annotated[list[str], Argument(metavar="MODEL…", help=COMPARED)],
    tenant: Tenant,
    questions: Annotated[
        Path | None, Option(metavar="FILE.jsonl", help="Default: the tenant's committed ones.")
    ] = None,
    most: Annotated[int, Option(min=1, metavar="N", help="Ask so many of them, drawn always alike.")] = 120,
    usd_per_hour: Annotated[
        list[str] | None, Option(metavar="MODEL=N", help="Price of the instance that serves a model.")
    ] = None,
    out: Annotated[Path, Option(metavar="FILE.html", help="The page.")] = Path("comparison.html"),
) -> None:
    """Ask models that write the same questions; one page shows right, refused, withheld, speed and cost."""
    from assistant.evaluation import comparison

    if len(set(names)) < 2 or len(set(names)) < len(names):
        raise typer.BadParameter("Name two models or more, each once.")
    options, terminal = GlobalOptions.of(context), Terminal()
    config = options.tenant(tenant)
    prices = {
        name: float(usd) for name, usd in pairs_of("--usd-per-hour", usd_per_hour or (), form="MODEL=N")
    }
    if unknown := prices.keys() - set(names):
        raise typer.BadParameter(f"--usd-per-hour names {', '.join(unknown)}, which is not compared.")
    recorded = committed(options) / "recorded" / f"{tenant}.jsonl"
    models = {name: None if name == _RECORDED else _served(options, config, name) for name in names}
    only = {line.id for line in read_recording([recorded])} if _RECORDED in names else None
    path = questions or committed(options) / f"{tenant}.jsonl"
    asked = TenantQuestions.of(path, asks=lambda one: only is None or one.qid in only)
    chosen = draw(asked.asked, count=most, seed="comparison")
    if not chosen:
        raise ConfigurationError(f"{path} holds no question that all of them can be asked.")

    async def run() -> list[comparison.Compared]:
        async with open_services(runtime, ports, [tenant]) as opened, AsyncExitStack() as stack:
            contenders: list[comparison.Contender] = []
            for name, model in models.items():
                services = opened[tenant]
                if model is None:
                    written = WrittenModel.of_recording(read_recording([recorded]))
                else:
                    generator = await stack.enter_async_context(behind_gateway(model))
                    facts, counter = model_elsewhere(model)
                    written = WrittenModel(generator, counter, model.origin, {})
                    section = services.tenant.generation.model_copy(
                        update={"model": model.name, "context_tokens": model.context_tokens}
                    )
                    services = replace(
                        services,
                        tenant=services.tenant.model_copy(update={"generation": section}),
                        writer=AnswerWriter(generator, facts, counter),
                    )
                contenders.append(comparison.Contender(name, written, services, prices.get(name)))
            with terminal.counting("asking", "questions") as show:
                earlier = {question.qid: question.question for question in asked.all}
                return await comparison.compare(
                    contenders, chosen, earlier=earlier, clock=SystemClock(), show=show
                )

    with loaded(options, terminal, [tenant]) as (runtime, ports):
        results = asyncio.run(run())
    clusters = {question.qid: question.document for question in chosen}
    page = comparison.comparison_page(
        results,
        clusters,
        questions=f"{len(chosen)} questions of {path.name} ({asked.sha256[:12]}), tenant {tenant}.",
        prices="Cost: the price given by --usd-per-hour, for the time of one answer after the other; batching "
        "makes it cheaper (assistant models capacity). A recording has no times of its own.",
    )
    write_private(out, page.encode())
    measured = {each.name: {"stopped": each.stopped, **each.estimates(clusters)} for each in results}
    if not options.writes({"page": str(out), "models": measured}):
        rows = [
            (title, *(f"{one.value:.3g}" if (one := found.get(name)) else "-" for found in measured.values()))
            for name, title in comparison.MEASURES.items()
        ]
        terminal.out.print(table("measure", *measured, right=list(measured), rows=rows))
        for each in results:
            if each.stopped:
                terminal.warn(f"{each.name} was stopped early: it is worse than {results[0].name}")
        terminal.show(f"Page: {out}", "bold")


def _served(options: GlobalOptions, tenant: TenantConfig, name: str) -> ServedLlm:
    """Return the model that a name of ``compare`` means. Raises ConfigurationError."""
    kind, _, rest = name.partition(":")
    values: dict[str, Any] = {"name": "compared", "context_tokens": tenant.generation.context_tokens}
    try:
        if kind == "endpoint":
            place = place_of(tenant, options.tenants_dir / f"{tenant.name}.toml")
            return ServedLlm(model=rest, region=place.region, **values)
        if "://" in name:
            url, _, model = name.partition("#")
            return ServedLlm(model=model, url=url, **values)
    except ValidationError as error:
        raise ConfigurationError(
            f"{name}: {error.errors()[0]['msg'].removeprefix('Value error, ')}."
        ) from None
    added = {model.name: model for model in added_models(models_dir(options.state_dir))}
    model = added.get(name)
    if not isinstance(model, ServedLlm) or model.recording is not None:
        known = ", ".join(each.name for each in added.values() if isinstance(each, ServedLlm)) or "none"
        raise ConfigurationError(
            f"{name} is no model behind a server that was added here; those are {known}. {COMPARED}"
        )
    return model


# --- adopt ------------------------------------------------------------------------------------------------
_IMAGES = {"llm": "llm_gpu", "embedding": "embedding_tei_cpu"}
"""Our own stacks serve a candidate's weights by these, and not by the image that JumpStart names."""
_BYTES = {"bfloat16": 2, "float16": 2, "float32": 4, "q4_1": 1}


def adopt(
    context: typer.Context,
    candidate: CandidateId,
    sequence_length: Annotated[int, Option(min=256, metavar="N", help="LLM: tokens of a stream.")] = 8192,
    batch_size: Annotated[int, Option(min=1, metavar="N", help="LLM: streams at a time.")] = 8,
    pooling: Annotated[
        Literal["mean", "cls"] | None, Option(help="Embedder: as its model card says.")
    ] = None,
) -> None:
    """Write the manifest of a resolved candidate, by which a tenant file can name it."""
    options, terminal = GlobalOptions.of(context), Terminal()
    path = _lock_path(options)
    row, facts = load_candidates(path).usable(candidate)
    found, image = facts.architecture, _IMAGES[row.task]
    compatible = next(
        each
        for each in load_compatibility(path.parent / "model_artifacts" / "compatibility.toml").row
        if each.image == image
    )
    values: dict[str, Any] = {
        "schema_version": 1,
        "name": row.id,
        "model": row.model,
        "licence": facts.licence,
        "revision": f"{row.id}=={facts.version}",
        "sha256": facts.listing_sha256,
        "files": facts.files,
        "image": image,
        "accelerator": compatible.accelerators[0],
        "ami": compatible.ami,
        "sdk": compatible.sdk,
        "dtype": found.dtype,
        "weights_bytes": facts.weights_bytes,
    }
    if row.task == "llm":
        values |= {
            "sequence_length": min(sequence_length, found.max_tokens or sequence_length),
            "batch_size": batch_size,
            "tensor_parallel": facts.accelerators or 1,
            "parameters": found.dtype and facts.weights_bytes // _BYTES[found.dtype],
            "layers": found.layers,
            "kv_heads": found.kv_heads,
            "head_size": found.head_size,
            "answering": AnsweringTable().model_dump(mode="json", exclude_none=True),
        }
    else:
        values |= {"dimensions": found.hidden_size, "max_tokens": found.max_tokens, "pooling": pooling}
    optional = {"ami", "sdk"}
    if missing := [name for name, value in values.items() if value is None and name not in optional]:
        raise ConfigurationError(
            f"{candidate}: JumpStart's files do not say {', '.join(missing)}. Write the manifest by hand "
            "(model_artifacts/README.md)."
        )
    kept = {name: value for name, value in values.items() if value is not None}
    if row.task == "llm":
        check_llm_fit(LlmManifest.model_validate(kept), instance_named(facts.instance))
    else:
        EmbeddingManifest.model_validate(kept)
    manifest = path.parent / "model_artifacts" / row.task / row.id / "manifest.toml"
    if manifest.exists():
        raise ConflictError(f"{manifest} exists already. Delete it first, to write it again.")
    manifest.parent.mkdir(parents=True, exist_ok=True)
    text = f"# Adopted from {LOCK_FILE}; sha256 is of the listing of {facts.artifact}\n"
    manifest.write_text(text + tomlkit.dumps(kept), encoding="utf-8")
    terminal.show(f"Wrote {manifest}. It serves where a tenant file names {row.id} under [models].")
    if row.task == "llm":
        terminal.say("it does not write answers yet: set answering.writes_answers once it was compared")
