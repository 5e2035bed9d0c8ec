"""Creates the index, its audit log, and the access of roles to it: custom resources of CloudFormation.

``stacks/ingestion.py`` declares both resources: ``Custom::SearchSchema`` with the property ``Stamp``, whose
change makes CloudFormation call again, and ``Custom::SearchAccess`` with ``{"Access": "read", "RoleArns":
["arn:aws:iam::…"]}`` (``grant_search_access``).
"""

from __future__ import annotations

from typing import Any, cast, get_args

from assistant.domain.errors import ConfigurationError
from assistant.process.settings import SchemaSettings
from assistant.service.function import CustomResourceEntry, ResourceRequest
from assistant.service.opened import SearchDomain, open_search_domain
from assistant.stores.index.opensearch_schema import allow_index, apply_schema, configure_audit, forbid_index
from assistant.tenant.deployed_names import SEARCH_ACCESS_RESOURCE, SEARCH_SCHEMA_RESOURCE, IndexAccess


async def run(services: SearchDomain, request: ResourceRequest) -> str:
    """Handle a create, update or delete of either resource; return its physical id. Raises
    ConfigurationError.

    CloudFormation deletes a resource whose physical id changes, so the id is the same for every update.
    """
    if request.resource_type == SEARCH_SCHEMA_RESOURCE:
        return await _apply_schema(services, request)
    if request.resource_type == SEARCH_ACCESS_RESOURCE:
        return await _apply_access(services, request)
    raise ConfigurationError(f"The function for the search schema cannot create {request.resource_type}.")


async def _apply_schema(domain: SearchDomain, request: ResourceRequest) -> str:
    """Create or update the index; return its alias. A delete leaves the index, because it holds the data."""
    if not request.is_delete:
        await apply_schema(domain.client, alias=domain.alias, schema=await domain.schema())
        await configure_audit(domain.client)
    return domain.alias


async def _apply_access(domain: SearchDomain, request: ResourceRequest) -> str:
    """Map IAM roles to a role of the domain; return that role's name. Each resource has a role of its own, so
    that the deletion of one removes no mapping of another."""
    stack_name = request.stack_id.split("/")[1]  # arn:aws:cloudformation:<region>:<account>:stack/<name>/<id>
    role = f"{stack_name}-{request.logical_id}"
    if request.is_delete:
        await forbid_index(domain.client, role=role)
        return role
    access, role_arns = _access_of(request.properties)
    await allow_index(domain.client, role=role, alias=domain.alias, access=access, iam_role_arns=role_arns)
    return role


def _access_of(properties: dict[str, Any]) -> tuple[IndexAccess, list[str]]:
    """Return what a resource grants, and to which IAM roles. Raises ConfigurationError."""
    access, role_arns = properties.get("Access"), properties.get("RoleArns")
    if access not in get_args(IndexAccess) or not isinstance(role_arns, list) or not role_arns:
        allowed = ", ".join(get_args(IndexAccess))
        raise ConfigurationError(f"Access must be one of {allowed}, and RoleArns a list of IAM role ARNs.")
    return cast("IndexAccess", access), [str(arn) for arn in cast("list[object]", role_arns)]


handle = CustomResourceEntry(SchemaSettings, open_search_domain, run)
"""Handler of the function (``lambdas.apply_search_schema.handle``). It opens the domain, and sends
CloudFormation the id or the error."""
