"""13: where a model is loaded from."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.templates import Resource
from template_checks.values import Unknown, Value, at, flag, items, text, texts_of_json
from template_checks.workloads import containers_of, data_sources, environment_of

_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
"""``owner/name``; a path starts with a slash, an address has a scheme."""
_HUB_NAME = re.compile(r"^(?=.*[A-Za-z])[A-Za-z0-9][\w.-]*$")
"""A name alone, as a hub has for its oldest models."""
_HUB_ADDRESS = re.compile(
    r"^(?:hf|huggingface|modelscope|ngc|ollama)://"
    r"|^https?://(?:[\w-]+\.)*(?:huggingface\.co|hf\.co|modelscope\.(?:cn|ai)|tfhub\.dev|ngc\.nvidia\.com"
    r"|nvcr\.io|github\.com|githubusercontent\.com|kaggle\.com|ollama\.com)(?:[/:]|$)",
    re.I,
)
"""A hub by its address, which no variable of a model's container has for another purpose."""
_LOADED = re.compile(
    r"(?:^|_)(?:MODEL|MODELS|TOKENIZER|ADAPTER|ADAPTERS|LORA|CHECKPOINT|WEIGHTS|PRETRAINED|REPO|HUB|DRAFT)(?:_|$)"
    r"|SPECULATIVE",
    re.I,
)
"""In the name of a variable: its value may be something that is loaded."""
_A_NAME_LOADS = re.compile(
    r"(?:^|_)(?:MODEL|TOKENIZER)(?:_ID)?$|^(?:HF|OPTION|SAGEMAKER|SM_\w+)_(?:MODEL|TOKENIZER)_ID$", re.I
)
"""The value of these is loaded also where it is a name alone."""
_NOT_LOADED = re.compile(
    r"SERVED|ALIAS|MODE$|FORMAT|TYPE|CACHE|DTYPE|LOADER|DISPLAY|LABEL|STAMP|BUCKET|TOKEN$", re.I
)
"""What a model is called by its callers, how it is loaded, where it is kept."""
_ARGUMENT = re.compile(
    r"^--(?:model|tokenizer|model-id|speculative-model|lora-modules|adapter|hf-config-path)(?:=(.*))?$"
)


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
                task.definition,
                environment_of(container),
                is_closed=is_closed,
                at_="ContainerDefinitions",
                names_alone=False,
            )
            yield from _check_arguments(task.definition, container, is_closed=is_closed)


def _check_hub(deployment: Deployment, model: Resource, container: Mapping[str, Value]) -> Iterator[Finding]:
    is_closed = _is_closed(deployment, model)
    if is_closed is False:
        return
    yield from _check_variables(
        model, environment_of(container), is_closed=is_closed, at_="PrimaryContainer", names_alone=True
    )
    for source in data_sources(container):
        if at(source.get("HubAccessConfig"), "HubContentArn") is not None:
            yield _hub(
                model,
                is_closed=is_closed,
                at_="PrimaryContainer.ModelDataSource.S3DataSource.HubAccessConfig",
                said="It loads its model from a hub by id.",
            )


def _check_variables(
    resource: Resource,
    environment: Mapping[str, Value],
    *,
    is_closed: bool | None,
    at_: str,
    names_alone: bool,
) -> Iterator[Finding]:
    """Look at every variable that may name something to load.

    ``names_alone``: also a name without owner is loaded, by any variable of a model and by the known ones.
    """
    for name, value in environment.items():
        place = f"{at_}.Environment.{name}"
        for variable, said in _said(name, value):
            if _HUB_ADDRESS.match(text(said)) and (names_alone or _LOADED.search(variable)):
                yield _hub(
                    resource,
                    is_closed=is_closed,
                    at_=place,
                    said=f"{text(said)} is the address of a model hub.",
                )
                continue
            if not _LOADED.search(variable) or _NOT_LOADED.search(variable):
                continue
            alone = bool(_A_NAME_LOADS.search(variable)) and (names_alone or variable in _OF_CONTAINERS)
            if isinstance(said, Unknown) and alone:
                yield _untold(resource, place, said)
            elif _is_hub_id(text(said), alone=alone):
                yield _hub(
                    resource, is_closed=is_closed, at_=place, said=f"{text(said)} is an id of a model hub."
                )


_OF_CONTAINERS = (
    "HF_MODEL_ID",
    "MODEL_ID",
    "OPTION_MODEL_ID",
    "SAGEMAKER_MODEL_ID",
    "SM_ON_MODEL",
    "SM_VLLM_MODEL",
)


def _said(name: str, value: Value) -> Iterator[tuple[str, Value]]:
    """Yield what a variable says: its value, or the fields of JSON in it."""
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")):
        try:
            document = json.loads(value)
        except ValueError:
            return
        yield from texts_of_json(name, document)
    else:
        yield name, value


def _is_hub_id(said: str, *, alone: bool) -> bool:
    if "${" in said:  # of a part of it that is not told, an owner or name is known enough
        said = re.sub(r"\$\{[^}]*\}", "x", said) if re.match(r"^[A-Za-z0-9]", said) else said
    return bool(_HUB_ID.match(said) or (alone and _HUB_NAME.match(said)))


def _check_arguments(
    resource: Resource, container: Mapping[str, Value], *, is_closed: bool | None
) -> Iterator[Finding]:
    arguments = [text(one) for one in (*items(container.get("EntryPoint")), *items(container.get("Command")))]
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        match = _ARGUMENT.match(argument)
        said = (match[1] or following) if match else ""
        if _is_hub_id(said, alone=True) or _HUB_ADDRESS.match(said):
            yield _hub(
                resource,
                is_closed=is_closed,
                at_=f"ContainerDefinitions[{text(container.get('Name'))}].Command",
                said=f"{said} is an id of a model hub.",
            )


def _untold(resource: Resource, at_: str, value: Value) -> Finding:
    return not_proven(
        resource,
        "hub-id",
        at=at_,
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
            "hub-id": "a model, tokenizer or adapter of a hub (owner/name, JumpStart), in any variable or "
            "argument, where the container reaches no network",
            "prefix-without-slash": "S3DataType S3Prefix with an address that does not end in /",
        },
        why="A container without a way out waits for the hub until its start-up limit. SageMaker reads an "
        "S3 prefix as a folder only with the slash.",
        mend="The model's files under an S3 prefix with a slash at its end, loaded from /opt/ml/model.",
        absent="no SageMaker model, and no task in a closed VPC names a model",
        check=_check,
    ),
)
