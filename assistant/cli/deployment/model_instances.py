"""Changes of an endpoint's instance that SageMaker refuses.

"If the update would change the instance type for any model that is a target for auto scaling, the update
fails" (Amazon SageMaker AI developer guide, "Update endpoints that use auto scaling"). An endpoint that is
made anew has no such limit: that is what pausing and resuming do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

Templates = Mapping[str, Mapping[str, Any]]
"""By stack name."""


@dataclass(frozen=True, slots=True)
class InstanceChange:
    """A variant that scales, and would run on another instance."""

    endpoint: str
    variant: str
    before: str
    after: str

    def __str__(self) -> str:
        return f"endpoint {self.endpoint}, variant {self.variant}: from {self.before} to {self.after}"


def instance_changes(deployed: Templates, new: Templates) -> list[InstanceChange]:
    """Return the changes that an update of standing endpoints cannot make."""
    before, after = dict(_instances(deployed)), dict(_instances(new))
    scaled = {
        resource["Properties"].get("ResourceId")
        for resource in _of_type(deployed, "AWS::ApplicationAutoScaling::ScalableTarget")
    }
    return [
        InstanceChange(endpoint, variant, before[endpoint, variant], after[endpoint, variant])
        for endpoint, variant in sorted(before.keys() & after.keys())
        if before[endpoint, variant] != after[endpoint, variant]
        and f"endpoint/{endpoint}/variant/{variant}" in scaled
    ]


def _instances(templates: Templates) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield ((endpoint's name, variant), instance type)."""
    for template in templates.values():
        resources = template.get("Resources", {})
        for endpoint in _of_type({"": template}, "AWS::SageMaker::Endpoint"):
            properties = endpoint["Properties"]
            config = resources.get(_referred(properties.get("EndpointConfigName")), {})
            for variant in config.get("Properties", {}).get("ProductionVariants", []):
                yield (
                    (str(properties.get("EndpointName")), str(variant.get("VariantName"))),
                    str(variant.get("InstanceType")),
                )


def _of_type(templates: Templates, kind: str) -> Iterator[Mapping[str, Any]]:
    for template in templates.values():
        for resource in template.get("Resources", {}).values():
            if resource["Type"] == kind:
                yield resource


def _referred(value: Any) -> str | None:
    """Return the logical id that a property points at."""
    if not isinstance(value, dict):
        return None
    match cast("dict[str, Any]", value):
        case {"Ref": str(logical_id)}:
            return logical_id
        case {"Fn::GetAtt": [str(logical_id), *_]}:
            return logical_id
        case _:
            return None
