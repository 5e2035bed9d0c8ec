"""``apply_search_schema`` and ``create_link_secret``: what is made once, asked for by CloudFormation."""

from __future__ import annotations

from typing import Any, cast, get_args

from assistant.aws.opensearch_schema import allow_index, apply_schema, configure_audit, forbid_index
from assistant.aws.parameters import create_link_secret as make_link_secret
from assistant.domain.errors import ConfigurationError
from assistant.functions.cloudformation import ResourceRequest, answer
from assistant.functions.entry import Event, LambdaContext
from assistant.settings.deployed_names import SEARCH_ACCESS_RESOURCE, SEARCH_SCHEMA_RESOURCE, IndexAccess
from assistant.wiring.services import LinkSecret, SearchDomain


async def apply_search_schema(domain: SearchDomain, event: Event, context: LambdaContext) -> None:
    """Answer requests for ``Custom::SearchSchema`` and ``Custom::SearchAccess``."""

    async def handle(request: ResourceRequest) -> str:
        if request.resource_type == SEARCH_SCHEMA_RESOURCE:
            return await _schema(domain, request)
        if request.resource_type == SEARCH_ACCESS_RESOURCE:
            return await _access(domain, request)
        raise ConfigurationError(f"The search schema's function makes no {request.resource_type}.")

    await answer(handle, event, context)


async def create_link_secret(secret: LinkSecret, event: Event, context: LambdaContext) -> None:
    """Answer requests for ``Custom::LinkSecret``. Deleted with its resource it would end every link that is
    out: it stays."""

    async def handle(request: ResourceRequest) -> str:
        settings = secret.settings
        if not request.is_delete:
            await make_link_secret(
                ssm=secret.ssm,
                kms=secret.kms,
                name=settings.parameter,
                tenant=settings.tenant,
                key_id=settings.key_id,
            )
        return settings.parameter

    await answer(handle, event, context)


async def _schema(domain: SearchDomain, request: ResourceRequest) -> str:
    """Indices outlive their resource: they are the data."""
    if not request.is_delete:
        await apply_schema(domain.client, alias=domain.alias, schema=await domain.schema())
        await configure_audit(domain.client)
    return domain.alias


async def _access(domain: SearchDomain, request: ResourceRequest) -> str:
    """Each resource has a role of the domain for itself, so that none takes another's mapping away."""
    stack_name = request.stack_id.split("/")[1]
    name = f"{stack_name}-{request.logical_id}"
    if request.is_delete:
        await forbid_index(domain.client, role=name)
        return name
    access, role_arns = _wanted(request.properties)
    await allow_index(domain.client, role=name, alias=domain.alias, access=access, iam_role_arns=role_arns)
    return name


def _wanted(properties: dict[str, Any]) -> tuple[IndexAccess, list[str]]:
    access, role_arns = properties.get("Access"), properties.get("RoleArns")
    if access not in get_args(IndexAccess) or not isinstance(role_arns, list) or not role_arns:
        raise ConfigurationError(
            f"Access must be one of {', '.join(get_args(IndexAccess))}, RoleArns a list of IAM roles' ARNs."
        )
    return cast("IndexAccess", access), [str(arn) for arn in cast("list[object]", role_arns)]
