"""Creates the index, its audit log, and the access of roles to it: custom resources of CloudFormation."""

from __future__ import annotations

from typing import Any, cast, get_args

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import SchemaSettings
from assistant.service.function import CustomResourceEntry, ResourceRequest
from assistant.service.opened import SearchDomain, open_search_domain
from assistant.stores.index.opensearch_schema import allow_index, apply_schema, configure_audit, forbid_index
from assistant.tenant.deployed_names import SEARCH_ACCESS_RESOURCE, SEARCH_SCHEMA_RESOURCE, IndexAccess


async def run(services: SearchDomain, request: ResourceRequest) -> str:
    """Handle ``Custom::SearchSchema`` and ``Custom::SearchAccess``. Raises ConfigurationError."""
    if request.resource_type == SEARCH_SCHEMA_RESOURCE:
        return await _apply_schema(services, request)
    if request.resource_type == SEARCH_ACCESS_RESOURCE:
        return await _apply_access(services, request)
    raise ConfigurationError(f"The function for the search schema cannot create {request.resource_type}.")


async def _apply_schema(domain: SearchDomain, request: ResourceRequest) -> str:
    """Create or update the index. A delete leaves the index: it is the data."""
    if not request.is_delete:
        await apply_schema(domain.client, alias=domain.alias, schema=await domain.schema())
        await configure_audit(domain.client)
    return domain.alias


async def _apply_access(domain: SearchDomain, request: ResourceRequest) -> str:
    """Map IAM roles to a role of the domain. Each resource has its own role, so that none removes the mapping
    of another."""
    stack_name = request.stack_id.split("/")[1]
    name = f"{stack_name}-{request.logical_id}"
    if request.is_delete:
        await forbid_index(domain.client, role=name)
        return name
    access, role_arns = _access_of(request.properties)
    await allow_index(domain.client, role=name, alias=domain.alias, access=access, iam_role_arns=role_arns)
    return name


def _access_of(properties: dict[str, Any]) -> tuple[IndexAccess, list[str]]:
    access, role_arns = properties.get("Access"), properties.get("RoleArns")
    if access not in get_args(IndexAccess) or not isinstance(role_arns, list) or not role_arns:
        accesses = ", ".join(get_args(IndexAccess))
        raise ConfigurationError(f"Access must be one of {accesses}, and RoleArns a list of IAM role ARNs.")
    return cast("IndexAccess", access), [str(arn) for arn in cast("list[object]", role_arns)]


handle = CustomResourceEntry(SchemaSettings, open_search_domain, run)
