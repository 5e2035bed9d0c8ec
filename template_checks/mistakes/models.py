"""13, 15 and 16: where models are loaded from, and what breaks the second deployment of an endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from template_checks.findings import (
    Deployment,
    Finding,
    judge,
    not_proven,
    or_passed,
    refused,
    unknown_parameter,
)
from template_checks.templates import Resource
from template_checks.values import (
    Unknown,
    Value,
    at,
    flag,
    is_known,
    items,
    referred,
    refers_to,
    text,
    texts_of,
)
from template_checks.workloads import (
    ENDPOINT,
    ENDPOINT_CONFIG,
    MODEL,
    Container,
    arguments_of,
    containers_of,
    data_sources,
    environment_of,
    subnets_of_model,
)

# --- 13: model hubs ---------------------------------------------------------------------------------------
_HUB_ID = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
"""``owner/name``; a path starts with a slash, an address has a scheme."""
_HUB_NAME = re.compile(r"^(?=.*[A-Za-z])[A-Za-z0-9][\w.-]*$")
"""A name alone, as a hub's oldest models have."""
_HUB_ADDRESS = re.compile(
    r"^(?:hf|huggingface|modelscope|ngc|ollama)://"
    r"|^https?://(?:[\w-]+\.)*(?:huggingface\.co|hf\.co|modelscope\.(?:cn|ai)|tfhub\.dev|ngc\.nvidia\.com"
    r"|nvcr\.io|github\.com|githubusercontent\.com|kaggle\.com|ollama\.com)(?:[/:]|$)",
    re.I,
)
"""Address of a hub. No variable of a model's container has one for another purpose."""
_LOADED = re.compile(
    r"(?:^|_)(?:MODEL|MODELS|TOKENIZER|ADAPTER|ADAPTERS|LORA|CHECKPOINT|WEIGHTS|PRETRAINED|REPO|HUB|DRAFT)(?:_|$)"
    r"|SPECULATIVE",
    re.I,
)
"""In the name of a variable whose value may be loaded."""
_LOADED_BY_NAME = re.compile(
    r"(?:^|_)(?:MODEL|TOKENIZER)(?:_ID)?$|^(?:HF|OPTION|SAGEMAKER|SM_\w+)_(?:MODEL|TOKENIZER)_ID$", re.I
)
"""Variables that load also a name without owner."""
_LOADED_BY_NAME_IN_TASKS = (
    "HF_MODEL_ID",
    "MODEL_ID",
    "OPTION_MODEL_ID",
    "SAGEMAKER_MODEL_ID",
    "SM_ON_MODEL",
    "SM_VLLM_MODEL",
)
_NOT_LOADED = re.compile(
    r"SERVED|ALIAS|MODE$|FORMAT|TYPE|CACHE|DTYPE|LOADER|DISPLAY|LABEL|STAMP|BUCKET|TOKEN$", re.I
)
"""In the name of a variable about the name for callers, the way of loading, or the storage."""
_ARGUMENT = re.compile(
    r"^--(?:model|tokenizer|model-id|speculative-model|lora-modules|adapter|hf-config-path)(?:=(.*))?$"
)


def _check_sources(deployment: Deployment) -> Iterator[Finding]:
    for model in deployment.workloads.models():
        place = _Place(model, "PrimaryContainer", _is_model_closed(deployment, model))
        for container in containers_of(model):
            found = [*_check_hub(place, container), *_check_prefixes(model, container)]
            yield from or_passed(found, model, "hub-id")
    for task in deployment.workloads.tasks():
        is_closed = deployment.vpcs.is_closed(task.subnets) if task.subnets else False
        place = _Place(task.definition, "ContainerDefinitions", is_closed)
        for container in task.containers if is_closed is not False else ():
            yield from _check_variables(place, container)
            yield from _check_arguments(place, container)


def _is_model_closed(deployment: Deployment, model: Resource) -> bool | None:
    if flag(model.properties.get("EnableNetworkIsolation")):
        return True
    subnets = subnets_of_model(model)
    return deployment.vpcs.is_closed(subnets) if subnets else False


@dataclass(frozen=True, slots=True)
class _Place:
    """A model or task definition, the property with its containers, and whether its network is closed."""

    resource: Resource
    path: str
    is_closed: bool | None

    @property
    def is_model(self) -> bool:
        return self.resource.type == MODEL

    def hub(self, at: str, said: str) -> Finding:
        where = "From a closed VPC, or with network isolation, no hub can be reached."
        if self.is_closed is None:
            where = "The templates have no route from its subnets to the hub."
        return refused(
            self.resource,
            "hub-id",
            at=at,
            message=f"{said} {where}",
            fix="Put the model's files under an S3 prefix, name that in ModelDataSource, and point the "
            "container at /opt/ml/model.",
        )


def _check_hub(place: _Place, container: Container) -> Iterator[Finding]:
    if place.is_closed is False:
        return
    yield from _check_variables(place, container)
    for source in data_sources(container):
        if at(source.get("HubAccessConfig"), "HubContentArn") is not None:
            yield place.hub(
                "PrimaryContainer.ModelDataSource.S3DataSource.HubAccessConfig",
                "It loads its model from a hub by id.",
            )


def _check_variables(place: _Place, container: Container) -> Iterator[Finding]:
    """Check every variable that may name something to load."""
    for name, value in environment_of(container).items():
        path = f"{place.path}.Environment.{name}"
        leaves = texts_of(name, value) if isinstance(value, str) else [(name, value)]
        for variable, leaf in leaves:
            is_loaded = _LOADED.search(variable) is not None
            if _HUB_ADDRESS.match(text(leaf)) and (place.is_model or is_loaded):
                yield place.hub(path, f"{text(leaf)} is the address of a model hub.")
                continue
            if not is_loaded or _NOT_LOADED.search(variable):
                continue
            by_name = bool(_LOADED_BY_NAME.search(variable))
            by_name = by_name and (place.is_model or variable in _LOADED_BY_NAME_IN_TASKS)
            if isinstance(leaf, Unknown) and by_name:
                message = f"{text(leaf)} may be a path or an id of a model hub."
                yield unknown_parameter(place.resource, "hub-id", at=path, message=message)
            elif _is_hub_id(text(leaf), by_name=by_name):
                yield place.hub(path, f"{text(leaf)} is an id of a model hub.")


def _is_hub_id(value: str, *, by_name: bool) -> bool:
    if re.match(r"^[A-Za-z0-9].*\$\{", value):  # of a partly unknown id, the owner or name is enough
        value = re.sub(r"\$\{[^}]*\}", "x", value)
    return bool(_HUB_ID.match(value) or (by_name and _HUB_NAME.match(value)))


def _check_arguments(place: _Place, container: Container) -> Iterator[Finding]:
    arguments = arguments_of(container)
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        match = _ARGUMENT.match(argument)
        value = (match[1] or following) if match else ""
        if _is_hub_id(value, by_name=True) or _HUB_ADDRESS.match(value):
            path = f"ContainerDefinitions[{text(container.get('Name'))}].Command"
            yield place.hub(path, f"{value} is an id of a model hub.")


def _check_prefixes(model: Resource, container: Container) -> Iterator[Finding]:
    for source in data_sources(container):
        address = text(source.get("S3Uri"))
        if text(source.get("S3DataType")) == "S3Prefix" and not address.endswith("/"):
            yield judge(
                None if address.endswith("}") else False,
                model,
                "prefix-without-slash",
                at="PrimaryContainer.ModelDataSource.S3DataSource.S3Uri",
                message=f"The prefix {address} does not end in a slash: SageMaker refuses it, or loads every "
                "sibling that begins alike.",
                fix=f"Write {address}/.",
            )


# --- 15: names --------------------------------------------------------------------------------------------
_CHANGES = re.compile(r"version|release|revision|hash|digest|sha|stamp|build|commit|suffix|date|time", re.I)
"""In the name of a parameter whose value changes with what the resource contains."""


def _check_names(deployment: Deployment) -> Iterator[Finding]:
    for kind, name in ((ENDPOINT_CONFIG, "EndpointConfigName"), (MODEL, "ModelName")):
        for resource in deployment.templates.of(kind):
            yield judge(
                name not in resource.properties or _changes(resource, name),
                resource,
                "hard-coded-name",
                at=name,
                message=f"It is always called {text(resource.properties.get(name))}. Any change replaces the "
                "resource, and the new one cannot be made while the old one has the name.",
                fix=f"Remove {name}: CloudFormation then generates a new name each time. An endpoint may "
                "keep its name.",
            )
    for endpoint in deployment.templates.of(ENDPOINT):
        config_name = endpoint.properties.get("EndpointConfigName")
        yield from _check_reference(endpoint, "EndpointConfigName", config_name)
    for config, variant in deployment.workloads.variants():
        yield from _check_reference(config, "ProductionVariants.ModelName", variant.get("ModelName"))


def _changes(resource: Resource, name: str) -> bool:
    """Return whether a name is made of something that changes with the resource."""
    properties = cast("Mapping[str, Any]", resource.raw.get("Properties") or {})
    return any(_CHANGES.search(reference) for reference in referred(properties.get(name)))


def _check_reference(resource: Resource, at: str, value: Value) -> Iterator[Finding]:
    if is_known(value) and value is not None:
        yield refused(
            resource,
            "hard-coded-reference",
            at=at,
            message=f"It names {text(value)} by a fixed text, so it does not change when that is replaced.",
            fix="Refer to the resource: !GetAtt <EndpointConfig>.EndpointConfigName, !GetAtt "
            "<Model>.ModelName.",
        )


# --- 16: scaling ------------------------------------------------------------------------------------------
def _check_scaling(deployment: Deployment) -> Iterator[Finding]:
    for endpoint in deployment.templates.of(ENDPOINT):
        yield _check_retained(endpoint)
    for target in deployment.templates.of("AWS::ApplicationAutoScaling::ScalableTarget"):
        if text(target.properties.get("ServiceNamespace")) == "sagemaker":
            yield _check_target(deployment, target)


def _check_retained(endpoint: Resource) -> Finding:
    value = endpoint.properties.get("RetainAllVariantProperties")
    is_retained = False if value is None else flag(value)
    # DataCaptureConfig has nothing to do with scaling.
    entries = items(endpoint.properties.get("ExcludeRetainedVariantProperties"))
    kinds = [text(at(entry, "VariantPropertyType")) for entry in entries]
    excluded = ", ".join(kind or "everything" for kind in kinds if kind != "DataCaptureConfig")
    if is_retained and excluded:
        return refused(
            endpoint,
            "retain-variants",
            at="ExcludeRetainedVariantProperties",
            message=f"{excluded} is reset to that of the configuration by each update, whatever scaling had "
            "set under load.",
            fix="Remove ExcludeRetainedVariantProperties.",
        )
    return judge(
        is_retained,
        endpoint,
        "retain-variants",
        at="RetainAllVariantProperties",
        message="Each update resets the number of instances to that of the configuration, "
        "whatever scaling had set under load.",
        fix="Set RetainAllVariantProperties: true.",
    )


def _check_target(deployment: Deployment, target: Resource) -> Finding:
    resource_id = target.properties.get("ResourceId")
    endpoint = next((one for one in deployment.templates.of(ENDPOINT) if _names(resource_id, one)), None)
    if endpoint is None:
        return not_proven(
            target,
            "scaling-before-endpoint",
            at="ResourceId",
            message=f"The endpoint of {text(resource_id)} is not in the templates.",
            fix="Add the endpoint's template to the same check.",
        )
    return judge(
        endpoint in deployment.templates.dependencies(target),
        target,
        "scaling-before-endpoint",
        at="DependsOn",
        message=f"CloudFormation may register it before {endpoint.logical_id} exists, which fails.",
        fix=f"Add DependsOn: {endpoint.logical_id}, or make ResourceId of !GetAtt "
        f"{endpoint.logical_id}.EndpointName.",
    )


def _names(resource_id: Value, endpoint: Resource) -> bool:
    name = endpoint.properties.get("EndpointName")
    is_named = name is not None and text(resource_id).startswith(f"endpoint/{text(name)}/")
    return is_named or refers_to(resource_id, endpoint)


CHECKS = {13: _check_sources, 15: _check_names, 16: _check_scaling}
