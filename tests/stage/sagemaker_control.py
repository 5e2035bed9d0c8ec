"""SageMaker's control plane for tests: training jobs and endpoints that take time, fail and stop, and quotas.

moto ends every job at once. Here a job is ``InProgress`` and an endpoint ``Creating`` until the test moves
it, through :class:`ControlledSageMaker`. Operations that are not listed in :meth:`SageMakerControl.handles`
go to moto as before.

Sources. Fields, enums, patterns and lengths: botocore's model of the service, which is read here. States and
what they allow: the documentation inside that model (``StopTrainingJob``, ``EndpointStatus``). Codes and
wording of refusals: aws/aws-sdk#165 and awslabs/benchmark-ai#928 (training
jobs), aws/sagemaker-python-sdk#101 and hashicorp/terraform-provider-aws#40048 (endpoints),
awsdocs/amazon-sagemaker-developer-guide#70 (quotas), awslabs/stable-diffusion-aws-extension#342 (an endpoint
that is Creating or Updating cannot be deleted), aws/amazon-sagemaker-examples#2236 (broken constraints).
Other wording is this file's: code of the product may rely on codes, not on texts.

Not emulated: IAM, how long anything takes, and images or artifacts that cannot be loaded (the test says so).
"""
# pyright: basic

from __future__ import annotations

import importlib.util
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from unittest.mock import patch

import aiohttp
import orjson

ACCOUNT = "123456789012"
CONTROL = "/_sagemaker/"
_IN_PROGRESS = ("Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting")
_JOB_ENDED = ("Completed", "Failed", "Stopped")


class ControlledSageMaker:
    """Moves what ordinary clients created in the emulator at ``url``. On exit it unsets quotas."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.quotas({})

    async def end_job(self, name: str, status: str, *, reason: str = "") -> None:
        """End a training job: ``Completed``, or ``Failed`` with a reason."""
        await self._post(f"training-jobs/{name}", {"status": status, "reason": reason})

    async def move_endpoint(self, name: str, status: str = "InService", *, reason: str = "") -> None:
        """Move an endpoint that is being created: to ``InService``, or ``Failed`` with a reason."""
        await self._post(f"endpoints/{name}", {"status": status, "reason": reason})

    async def quotas(self, values: Mapping[str, float]) -> None:
        """Set the account's quotas, ``{"ml.inf2.8xlarge for endpoint usage": 0}``. Others are unlimited."""
        await self._post("quotas", dict(values))

    async def _post(self, path: str, body: dict[str, Any]) -> None:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{self._url}{CONTROL}{path}", data=orjson.dumps(body)) as response,
        ):
            text = await response.text()
            assert response.status == 200, f"{path}: {response.status} {text}"


class RefusedError(Exception):
    """The service's answer 400."""

    def __init__(self, message: str, *, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class _Kind:
    name: str
    """As in ``CreateTrainingJob``; names of fields follow from it."""
    route: str
    """The last parts of its ARN, and its control route with an ``s``."""
    words: str
    list_field: str
    taken: str = 'Cannot create already existing {words} "{arn}".'
    taken_code: str = "ValidationException"
    missing: str = 'Could not find {words} "{arn}".'


_JOB_TAKEN = "A {words} with this name already exists in this account and region ({arn})"
_TRAINING = _Kind(
    "TrainingJob",
    "training-job",
    "training job",
    "TrainingJobSummaries",
    _JOB_TAKEN,
    "ResourceInUse",
    "Requested resource not found.",
)
_MODEL = _Kind("Model", "model", "model", "Models")
_CONFIG = _Kind("EndpointConfig", "endpoint-config", "endpoint configuration", "EndpointConfigs")
_ENDPOINT = _Kind("Endpoint", "endpoint", "endpoint", "Endpoints")
_KINDS = {each.name: each for each in (_TRAINING, _MODEL, _CONFIG, _ENDPOINT)}


@dataclass(slots=True)
class _Kept:
    """One job, model, configuration or endpoint. ``shown`` are fields of its Describe answer."""

    kind: _Kind
    region: str
    shown: dict[str, Any]

    @property
    def arn(self) -> str:
        return self.shown[f"{self.kind.name}Arn"]

    @property
    def status(self) -> str:
        return self.shown.get(f"{self.kind.name}Status", "")

    def become(self, status: str, **shown: Any) -> None:
        self.shown.update({f"{self.kind.name}Status": status, "LastModifiedTime": time.time(), **shown})


class SageMakerControl:
    """A WSGI application in front of moto. State lives in this object; one lock serialises the requests."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], _Kept] = {}
        self._quotas: dict[str, float] = {}
        self._lock = threading.RLock()

    def handles(self, environ: Mapping[str, Any]) -> bool:
        """Say whether this request is ours: a control route, or what moto lacks or does at once."""
        service, _, operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")
        return (
            environ.get("PATH_INFO", "").startswith(CONTROL)
            or (service == "SageMaker" and operation in self._operations)
            or (service == "ServiceQuotasV20190624" and operation == "ListServiceQuotas")
        )

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        body = orjson.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
        operation = environ.get("HTTP_X_AMZ_TARGET", "").partition(".")[2]
        try:
            with self._lock:
                if environ["PATH_INFO"].startswith(CONTROL):
                    found: dict[str, Any] = self._controlled(environ["PATH_INFO"].removeprefix(CONTROL), body)
                elif operation == "ListServiceQuotas":
                    found = self._list_quotas(body)
                else:
                    scope = re.search(r"Credential=[^/]*/\d+/([^/]+)/", environ.get("HTTP_AUTHORIZATION", ""))
                    found = self._answer(operation, body, region=scope[1] if scope else "us-east-1")
            status, answer = "200 OK", found
        except RefusedError as error:
            status, answer = "400 Bad Request", {"__type": error.code, "message": str(error)}
        start_response(status, [("Content-Type", "application/x-amz-json-1.1")])
        return [orjson.dumps(answer)]

    @cached_property
    def _api(self) -> Any:
        from botocore.session import get_session

        return get_session().get_service_model("sagemaker")

    @cached_property
    def _operations(self) -> dict[str, Callable[[dict[str, Any], str], dict[str, Any]]]:
        return {
            "CreateTrainingJob": self._create_job,
            "CreateModel": self._create_model,
            "CreateEndpointConfig": self._create_config,
            "CreateEndpoint": self._create_endpoint,
            **{f"Describe{name}": _bound(self._describe, kind) for name, kind in _KINDS.items()},
            **{f"List{name}s": _bound(self._list, kind) for name, kind in _KINDS.items()},
            **{f"Delete{each.name}": _bound(self._delete, each) for each in (_MODEL, _CONFIG, _ENDPOINT)},
        }

    def _answer(self, operation: str, body: dict[str, Any], *, region: str) -> dict[str, Any]:
        shape = self._api.operation_model(operation).input_shape
        broken = list(_broken_constraints(shape, body, ""))
        if broken:
            raise RefusedError(
                f"{len(broken)} validation error{'s' * (len(broken) > 1)} detected: {'; '.join(broken)}"
            )
        return self._operations[operation](body, region)

    # Jobs

    def _create_job(self, body: dict[str, Any], region: str) -> dict[str, Any]:
        given, cluster = body["AlgorithmSpecification"], body.get("ResourceConfig", {})
        if ("TrainingImage" in given) == ("AlgorithmName" in given):
            raise RefusedError("You must specify either an algorithm name or a training image.")
        count = cluster.get("InstanceCount", 1)
        self._heed_quota(cluster.get("InstanceType", ""), count, usage="training job usage")
        job = self._keep(_TRAINING, body, region)
        job.become("InProgress")
        return {"TrainingJobArn": job.arn}

    def _end_job(self, job: _Kept) -> None:
        if job.status in _JOB_ENDED:
            raise RefusedError(f"{job.shown['TrainingJobName']} is {job.status} and cannot change.")
        output = job.shown["OutputDataConfig"]
        folder = f"{output['S3OutputPath'].rstrip('/')}/{job.shown['TrainingJobName']}/output/model"
        packed = "/" if output.get("CompressionType") == "NONE" else ".tar.gz"
        job.shown["ModelArtifacts"] = {"S3ModelArtifacts": f"{folder}{packed}"}

    # Models and endpoints

    def _create_model(self, body: dict[str, Any], region: str) -> dict[str, Any]:
        if ("PrimaryContainer" in body) == ("Containers" in body):
            raise RefusedError("Specify either PrimaryContainer or Containers.")
        return {"ModelArn": self._keep(_MODEL, body, region).arn}

    def _create_config(self, body: dict[str, Any], region: str) -> dict[str, Any]:
        names = [each["VariantName"] for each in body["ProductionVariants"]]
        if len(set(names)) < len(names):
            raise RefusedError(f"Variant names must be unique: {', '.join(names)}.")
        for each in body["ProductionVariants"]:
            if "ModelName" in each:
                self._found(_MODEL, each["ModelName"], region)
            each.setdefault("InitialVariantWeight", 1.0)
        return {"EndpointConfigArn": self._keep(_CONFIG, body, region).arn}

    def _create_endpoint(self, body: dict[str, Any], region: str) -> dict[str, Any]:
        variants = self._variants(body["EndpointConfigName"], region)
        endpoint = self._keep(_ENDPOINT, body, region)
        endpoint.shown.pop("DeploymentConfig", None)
        endpoint.shown["ProductionVariants"] = variants
        endpoint.become("Creating")
        return {"EndpointArn": endpoint.arn}

    def _variants(self, config_name: str, region: str) -> list[dict[str, Any]]:
        variants = list[dict[str, Any]]()
        for each in self._found(_CONFIG, config_name, region).shown["ProductionVariants"]:
            count = each.get("InitialInstanceCount", 1)
            self._heed_quota(each.get("InstanceType", ""), count, usage="endpoint usage")
            variants.append(
                {
                    "VariantName": each["VariantName"],
                    "CurrentWeight": each["InitialVariantWeight"],
                    "DesiredWeight": each["InitialVariantWeight"],
                    "CurrentInstanceCount": count,
                    "DesiredInstanceCount": count,
                }
            )
        return variants

    # Everything

    def _keep(self, kind: _Kind, body: dict[str, Any], region: str) -> _Kept:
        name = body[f"{kind.name}Name"]
        arn = f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind.route}/{name.lower()}"
        if (region, kind.name, name) in self._kept:
            raise RefusedError(kind.taken.format(words=kind.words, arn=arn), code=kind.taken_code)
        now = time.time()
        shown = {**body, f"{kind.name}Arn": arn, "CreationTime": now, "LastModifiedTime": now}
        kept = _Kept(kind=kind, region=region, shown=shown)
        self._kept[region, kind.name, name] = kept
        return kept

    def _found(self, kind: _Kind, name: str, region: str) -> _Kept:
        kept = self._kept.get((region, kind.name, name))
        if kept is None:
            arn = f"arn:aws:sagemaker:{region}:{ACCOUNT}:{kind.route}/{name.lower()}"
            raise RefusedError(kind.missing.format(words=kind.words, arn=arn, name=name))
        return kept

    def _describe(self, kind: _Kind, body: dict[str, Any], region: str) -> dict[str, Any]:
        kept = self._found(kind, body[f"{kind.name}Name"], region)
        members = self._api.operation_model(f"Describe{kind.name}").output_shape.members
        return {name: value for name, value in kept.shown.items() if name in members}

    def _list(self, kind: _Kind, body: dict[str, Any], region: str) -> dict[str, Any]:
        found = [
            each
            for (where, name, _), each in self._kept.items()
            if (where, name) == (region, kind.name)
            and body.get("NameContains", "") in each.shown[f"{name}Name"]
        ]
        found.sort(key=lambda each: each.shown["CreationTime"], reverse=True)
        shape = self._api.operation_model(f"List{kind.name}s").output_shape
        members = shape.members[kind.list_field].member.members
        shown = [{name: value for name, value in each.shown.items() if name in members} for each in found]
        return _page(shown, body, named=kind.list_field, default=10)

    def _delete(self, kind: _Kind, body: dict[str, Any], region: str) -> dict[str, Any]:
        kept = self._found(kind, body[f"{kind.name}Name"], region)
        if kept.status in _IN_PROGRESS:
            raise RefusedError(f'Cannot update in-progress endpoint "{kept.arn}".')
        del self._kept[region, kind.name, body[f"{kind.name}Name"]]
        return {}

    def _move(self, kept: _Kept, status: str, *, reason: str) -> None:
        if kept.kind is _TRAINING:
            self._end_job(kept)
        kept.become(status, **({"FailureReason": reason} if reason else {}))

    @property
    def has_quotas(self) -> bool:
        """Whether a test has set any."""
        return bool(self._quotas)

    # Quotas, and what tests say

    def _heed_quota(self, instance_type: str, wanted: int, *, usage: str) -> None:
        """Refuse as AWS does. What runs already is not counted: other tests left it there."""
        name = f"{instance_type} for {usage}"
        limit = self._quotas.get(name)
        if limit is not None and wanted > limit:
            raise RefusedError(
                f"The account-level service limit '{name}' is {limit:g} Instances, with current utilization "
                f"of 0 Instances and a request delta of {wanted} Instances. Please use AWS Service Quotas to "
                "request an increase for this quota.",
                code="ResourceLimitExceeded",
            )

    def _list_quotas(self, body: dict[str, Any]) -> dict[str, Any]:
        if body.get("ServiceCode") != "sagemaker":
            raise RefusedError("This emulator has quotas of sagemaker only.", code="NoSuchResourceException")
        quotas = [
            {
                "ServiceCode": "sagemaker",
                "ServiceName": "Amazon SageMaker",
                "QuotaCode": f"L-{number:08X}",
                "QuotaName": name,
                "Value": float(value),
                "Unit": "None",
                "Adjustable": True,
                "GlobalQuota": False,
            }
            for number, (name, value) in enumerate(sorted(self._quotas.items()))
        ]
        return _page(quotas, body, named="Quotas", default=100)

    def _controlled(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        match path.split("/"):
            case ["quotas"]:
                self._quotas = body
            case [route, name]:
                (kind,) = [each for each in _KINDS.values() if f"{each.route}s" == route]
                (kept,) = [
                    each
                    for (_, held, given), each in self._kept.items()
                    if (held, given) == (kind.name, name)
                ] or [None]
                if kept is None:
                    raise RefusedError(f"The test names an unknown {kind.words}: {name}")
                status = self._api.shape_for(f"{kind.name}Status").enum
                if body["status"] not in status:
                    raise RefusedError(
                        f"{body['status']} is no status of a {kind.words}: {', '.join(status)}"
                    )
                self._move(kept, body["status"], reason=body.get("reason", ""))
            case _:
                raise RefusedError(f"No such control route: {path}")
        return {}


def _bound(method: Callable[..., Any], kind: _Kind) -> Callable[[dict[str, Any], str], dict[str, Any]]:
    return lambda body, region: method(kind, body, region)


def _page(found: list[Any], body: dict[str, Any], *, named: str, default: int) -> dict[str, Any]:
    first = int(body.get("NextToken") or 0)
    last = first + int(body.get("MaxResults") or default)
    return {named: found[first:last], **({"NextToken": str(last)} if last < len(found) else {})}


def _broken_constraints(shape: Any, value: Any, path: str) -> Iterator[str]:
    """Yield what AWS refuses and botocore's client lets pass: enums, patterns, lengths. Python cannot read 18
    of the model's 466 patterns (classes like ``\\p{L}``); those are not checked."""
    if shape.type_name == "structure":
        for name, member in shape.members.items():
            if name in value:
                yield from _broken_constraints(
                    member, value[name], f"{path}.{name[0].lower()}{name[1:]}".lstrip(".")
                )
        return
    if shape.type_name == "list":
        for number, each in enumerate(value, 1):
            yield from _broken_constraints(shape.member, each, f"{path}.{number}.member")
    elif shape.type_name == "map":
        for key, each in value.items():
            yield from _broken_constraints(shape.key, key, f"{path}.key")
            yield from _broken_constraints(shape.value, each, f"{path}.{key}.member")
    failed = _failed_constraint(shape, value)
    if failed:
        yield f"Value '{value}' at '{path}' failed to satisfy constraint: Member must {failed}"


def _failed_constraint(shape: Any, value: Any) -> str:
    limits = shape.metadata
    if "enum" in limits and value not in limits["enum"]:
        return f"satisfy enum value set: [{', '.join(limits['enum'])}]"
    size = value if isinstance(value, int | float) else len(value)
    of = "value" if isinstance(value, int | float) else "length"
    if size > limits.get("max", size):
        return f"have {of} less than or equal to {limits['max']}"
    if size < limits.get("min", size):
        return f"have {of} greater than or equal to {limits['min']}"
    if isinstance(value, str) and "pattern" in limits:
        try:
            matched = re.fullmatch(limits["pattern"], value)
        except re.error:
            return ""
        return "" if matched else f"satisfy regular expression pattern: {limits['pattern']}"
    return ""


# --- the SDK ----------------------------------------------------------------------------------------------
ROOT = Path(__file__).parents[2]
STAND_IN = ROOT / "tests/stage/sagemaker_sdk"


def install_sdk(root: Path, *, real: bool = os.environ.get("SAGEMAKER_SDK") == "real") -> None:
    """Make ``build/sagemaker`` of a checkout, of a stand-in of the SDK. With SAGEMAKER_SDK=real, as
    ``check-models`` says, it is the one of the environment that ``make sagemaker-sdk`` made."""
    home = root / "build/sagemaker"
    home.parent.mkdir(exist_ok=True)
    if real:
        home.symlink_to(ROOT / "build/sagemaker")
        return
    python = home / "bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nPYTHONPATH={STAND_IN} exec {sys.executable} "$@"\n')
    python.chmod(0o755)
    (home / "stamp").touch()


def request_of(order: Mapping[str, Any]) -> dict[str, Any]:
    """Return what CreateTrainingJob is given for an order, by the stand-in."""
    spec = importlib.util.spec_from_file_location("jobs", ROOT / "model_artifacts/jobs.py")
    assert spec is not None
    assert spec.loader is not None
    jobs = importlib.util.module_from_spec(spec)
    requests: list[dict[str, Any]] = []

    class Session:
        def client(self, *_: str) -> Any:
            return self

        def create_training_job(self, **request: Any) -> None:
            requests.append(request)

        def describe_training_job(self, **_: str) -> dict[str, str]:
            return {"TrainingJobArn": "arn"}

    with patch.object(sys, "path", [str(STAND_IN), *sys.path]):
        spec.loader.exec_module(jobs)
    jobs.training_job(order, session=Session(), region="us-east-1")
    return requests[0]
