"""15 and 16: what breaks the second deployment of an endpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from template_checks.findings import Deployment, Finding, Mistake, not_proven, passed, refused
from template_checks.templates import Resource
from template_checks.values import Value, at, flag, is_known, items, referred, targets, text
from template_checks.workloads import ENDPOINT, ENDPOINT_CONFIG, MODEL

_CAPTURE = "DataCaptureConfig"
_CHANGES = re.compile(r"version|release|revision|hash|digest|sha|stamp|build|commit|suffix|date|time", re.I)
"""In the name of a parameter: its value changes with what the resource holds."""


def _check_names(deployment: Deployment) -> Iterator[Finding]:
    for kind, name in ((ENDPOINT_CONFIG, "EndpointConfigName"), (MODEL, "ModelName")):
        for resource in deployment.templates.of(kind):
            if name not in resource.properties or _changes(resource, name):
                yield passed(resource, "hard-coded-name")
            else:
                yield _hard_coded(resource, at_=name, value=resource.properties[name])
    for endpoint in deployment.templates.of(ENDPOINT):
        config_name = endpoint.properties.get("EndpointConfigName")
        yield from _check_reference(endpoint, "EndpointConfigName", config_name)
    for config, variant in deployment.workloads.variants():
        yield from _check_reference(config, "ProductionVariants.ModelName", variant.get("ModelName"))


def _changes(resource: Resource, name: str) -> bool:
    """Return whether a name is made of something that changes with the resource."""
    properties = cast("Mapping[str, Any]", resource.raw.get("Properties") or {})
    return any(_CHANGES.search(reference) for reference in referred(properties.get(name)))


def _check_reference(resource: Resource, at_: str, value: Value) -> Iterator[Finding]:
    if is_known(value) and value is not None:
        yield refused(
            resource,
            "hard-coded-reference",
            at=at_,
            message=f"It names {text(value)} by a fixed text, so nothing tells it when that is replaced.",
            mend="Refer to the resource: !GetAtt <EndpointConfig>.EndpointConfigName, !GetAtt "
            "<Model>.ModelName.",
        )


def _hard_coded(resource: Resource, *, at_: str, value: Value) -> Finding:
    return refused(
        resource,
        "hard-coded-name",
        at=at_,
        message=f"It is always called {text(value)}. Any change replaces the resource, and the new one "
        "cannot be made while the old one has the name.",
        mend=f"Leave {at_} out: CloudFormation then names each one anew. An endpoint may keep its name.",
    )


def _check_scaling(deployment: Deployment) -> Iterator[Finding]:
    for endpoint in deployment.templates.of(ENDPOINT):
        retained = endpoint.properties.get("RetainAllVariantProperties")
        excluded = _excluded(endpoint)
        if flag(retained) is True and excluded:
            yield refused(
                endpoint,
                "retain-variants",
                at="ExcludeRetainedVariantProperties",
                message=f"Each update puts {', '.join(excluded)} back to that of the configuration, whatever "
                "scaling had made it under load.",
                mend="Leave ExcludeRetainedVariantProperties out.",
            )
        elif flag(retained) is True:
            yield passed(endpoint, "retain-variants")
        else:
            is_told = retained is None or flag(retained) is not None
            yield (refused if is_told else not_proven)(
                endpoint,
                "retain-variants",
                at="RetainAllVariantProperties",
                message="Each update puts the number of instances back to that of the configuration, "
                "whatever scaling had made it under load.",
                mend="Set RetainAllVariantProperties: true.",
            )
    for target in deployment.templates.of("AWS::ApplicationAutoScaling::ScalableTarget"):
        if text(target.properties.get("ServiceNamespace")) == "sagemaker":
            yield _check_target(deployment, target)


def _excluded(endpoint: Resource) -> list[str]:
    """Return what an endpoint does not retain of its variants' size and share of traffic."""
    entries = items(endpoint.properties.get("ExcludeRetainedVariantProperties"))
    kinds = [text(at(entry, "VariantPropertyType")) for entry in entries]
    return [kind or "everything" for kind in kinds if kind != _CAPTURE]  # what capture has is not of scaling


def _check_target(deployment: Deployment, target: Resource) -> Finding:
    resource_id = target.properties.get("ResourceId")
    endpoint = next((one for one in deployment.templates.of(ENDPOINT) if _names(resource_id, one)), None)
    if endpoint is None:
        return not_proven(
            target,
            "scaling-before-endpoint",
            at="ResourceId",
            message=f"The endpoint of {text(resource_id)} is not in the templates.",
            mend="Give the endpoint's template to the same check.",
        )
    if endpoint in deployment.templates.dependencies(target):
        return passed(target, "scaling-before-endpoint")
    return refused(
        target,
        "scaling-before-endpoint",
        at="DependsOn",
        message=f"CloudFormation may register it before {endpoint.logical_id} exists, which fails.",
        mend=f"Add DependsOn: {endpoint.logical_id}, or make ResourceId of !GetAtt "
        f"{endpoint.logical_id}.EndpointName.",
    )


def _names(resource_id: Value, endpoint: Resource) -> bool:
    if any(target.resource is endpoint for target in targets(resource_id)):
        return True
    name = endpoint.properties.get("EndpointName")
    return name is not None and text(resource_id).startswith(f"endpoint/{text(name)}/")


MISTAKES = (
    Mistake(
        number=15,
        title="Hard-coded endpoint config or model names",
        parts={
            "hard-coded-name": "EndpointConfigName or ModelName is set, and to nothing that changes with it",
            "hard-coded-reference": "an endpoint or variant names its configuration or model by a fixed text",
        },
        why="Models and endpoint configurations cannot be changed, only replaced, and the new one is made "
        "before the old one goes: under the same name that fails.",
        mend="No name on models and configurations; references by GetAtt.",
        absent="no SageMaker model or endpoint configuration",
        check=_check_names,
    ),
    Mistake(
        number=16,
        title="No RetainAllVariantProperties, or a scalable target that does not depend on its endpoint",
        parts={
            "retain-variants": "RetainAllVariantProperties is not true on an endpoint, or something is "
            "excluded from it",
            "scaling-before-endpoint": "a scalable target may be made before its endpoint",
        },
        why="An update without it scales a loaded endpoint back to its initial count. A scalable target "
        "names the endpoint by text, from which CloudFormation learns no order.",
        mend="RetainAllVariantProperties: true; a reference or DependsOn from the scalable target.",
        absent="no SageMaker endpoint",
        check=_check_scaling,
    ),
)
