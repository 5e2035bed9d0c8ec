"""13: where a model is loaded from."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from assistant.template_checks.findings import Finding, not_proven, passed, refused
from assistant.template_checks.mistakes.mistake import Deployment, Mistake
from assistant.template_checks.templates import Resource
from assistant.template_checks.values import Unknown, Value, at, flag, is_known, items, text
from assistant.template_checks.workloads import containers_of, data_sources, environment_of

_VARIABLES = (
    "HF_MODEL_ID",
    "MODEL_ID",
    "OPTION_MODEL_ID",
    "SM_ON_MODEL",
    "SM_VLLM_MODEL",
    "SAGEMAKER_MODEL_ID",
)
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*(?:/[\w.-]+)?$")
"""``owner/name``, or a name alone; a path starts with a slash, an address has a scheme."""


def _check(deployment: Deployment) -> Iterator[Finding]:
    for model in deployment.workloads.models():
        for container in containers_of(model):
            found = [*_check_hub(deployment, model, container), *_check_prefixes(model, container)]
            yield from found
            if not found:
                yield passed(model, "hub-id")
    for task in deployment.workloads.tasks():
        is_closed = deployment.vpcs.is_closed(task.subnets) if task.subnets else False
        for container in task.containers if is_closed is not False else ():
            yield from _check_variables(
                task.definition, environment_of(container), is_closed=is_closed, at_="ContainerDefinitions"
            )


def _check_hub(deployment: Deployment, model: Resource, container: Mapping[str, Value]) -> Iterator[Finding]:
    is_closed = _is_closed(deployment, model)
    if is_closed is False:
        return
    yield from _check_variables(model, environment_of(container), is_closed=is_closed, at_="PrimaryContainer")
    for source in data_sources(container):
        if at(source.get("HubAccessConfig"), "HubContentArn") is not None:
            yield _hub(
                model,
                is_closed=is_closed,
                at_="PrimaryContainer.ModelDataSource.S3DataSource.HubAccessConfig",
                said="It loads its model from a hub by id.",
            )


def _check_variables(
    resource: Resource, environment: Mapping[str, Value], *, is_closed: bool | None, at_: str
) -> Iterator[Finding]:
    for name in _VARIABLES:
        value = environment.get(name)
        if value is not None and is_known(value) and _HUB_ID.match(text(value)):
            yield _hub(
                resource,
                is_closed=is_closed,
                at_=f"{at_}.Environment.{name}",
                said=f"{text(value)} is an id of a model hub.",
            )
        elif isinstance(value, Unknown):
            yield not_proven(
                resource,
                "hub-id",
                at=f"{at_}.Environment.{name}",
                message=f"Whether {text(value)} is a path or an id of a model hub is not told.",
                mend="Give the parameter a default, or its value in the facts: parameters.",
            )


def _hub(resource: Resource, *, is_closed: bool | None, at_: str, said: str) -> Finding:
    where = "From a closed VPC, or with network isolation, no hub can be reached."
    if is_closed is None:
        where = "Nothing in the templates leads from its subnets to the hub."
    return refused(
        resource,
        "hub-id",
        at=at_,
        message=f"{said} {where}",
        mend="Put the model's files under an S3 prefix, name that in ModelDataSource, and point the "
        "container at /opt/ml/model.",
    )


def _is_closed(deployment: Deployment, model: Resource) -> bool | None:
    if flag(model.properties.get("EnableNetworkIsolation")):
        return True
    subnets = items(at(model.properties.get("VpcConfig"), "Subnets"))
    return deployment.vpcs.is_closed(subnets) if subnets else False


def _check_prefixes(model: Resource, container: Mapping[str, Value]) -> Iterator[Finding]:
    for source in data_sources(container):
        uri = source.get("S3Uri")
        address = text(uri)
        if text(source.get("S3DataType")) != "S3Prefix" or address.endswith("/"):
            continue
        is_told = not address.endswith("}")
        yield (refused if is_told else not_proven)(
            model,
            "prefix-without-slash",
            at="PrimaryContainer.ModelDataSource.S3DataSource.S3Uri",
            message=f"The prefix {address} does not end in a slash: SageMaker refuses it, or takes every "
            "sibling that begins alike.",
            mend=f"Write {address}/.",
        )


MISTAKES = (
    Mistake(
        number=13,
        title="A hub id in a closed VPC, or a prefix without /",
        parts={
            "hub-id": "a model of a hub (owner/name, JumpStart) where the container reaches no network",
            "prefix-without-slash": "S3DataType S3Prefix with an address that does not end in /",
        },
        why="A container without a way out waits for the hub until its start-up limit. SageMaker reads an "
        "S3 prefix as a folder only with the slash.",
        mend="The model's files under an S3 prefix with a slash at its end, loaded from /opt/ml/model.",
        absent="no SageMaker model, and no task in a closed VPC names a model",
        check=_check,
    ),
)
