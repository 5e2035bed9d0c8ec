"""The panel's page, and the codes that sign it in.

1. The helpdesk's server asks for a code (``/v1/panel/codes``) and gives it to its own page.
2. That page hands it to the panel, which it holds in a frame.
3. The panel exchanges it for the tokens (``/v1/panel/sessions``), once.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from assistant.domain.errors import ForbiddenError, NotFoundError
from assistant.domain.identity import ContextToken, Identity, Role
from assistant.domain.public import PublicModel
from assistant.options.panel.codes import (
    LIFETIME_S,
    MAX_CODE_CHARACTERS,
    PanelCodes,
    refused_code,
    tenant_of_code,
)
from assistant.service.app import console_page
from assistant.service.errors import NOT_FOUND, body_of, declared, problems
from assistant.service.identity import ServiceOf, TenantOf, caller_with
from assistant.service.streams import json_body

router = APIRouter(tags=["panel"])


class PanelCodeRequest(PublicModel):
    """Body of ``POST /v1/panel/codes``, from a helpdesk's server."""

    context: ContextToken = Field(repr=False)
    """The care application's token of the conversation, of the same agent as the bearer token."""
    origin: str = Field(max_length=256)
    """Of the page that will hand the code to the panel, as in ``[edge] frame_ancestors``."""


class PanelCode(PublicModel):
    code: str = Field(repr=False)
    lifetime_s: int = LIFETIME_S


class PanelSessionRequest(PublicModel):
    """Body of ``POST /v1/panel/sessions``, from the panel."""

    code: str = Field(max_length=MAX_CODE_CHARACTERS, repr=False)
    origin: str = Field(max_length=256)
    """Of the page that handed the code over."""


class PanelSession(PublicModel):
    access_token: str = Field(repr=False)
    context: str = Field(repr=False)


REQUEST_BODIES = (PanelCodeRequest, PanelSessionRequest)


@router.post("/v1/panel/codes", **declared(body=PanelCodeRequest))
async def make_panel_code(
    request: Request,
    service: ServiceOf,
    tenant: TenantOf,
    caller: Annotated[Identity, caller_with(Role.AGENT)],
    asked: Annotated[PanelCodeRequest, json_body(PanelCodeRequest)],
) -> PanelCode:
    """Return a code that signs the caller in to the panel of one page, once, within a minute. The caller is a
    helpdesk's server with the agent's access token, and with a context that the care application signed."""
    await service.context_of(asked.context, identity=caller)
    if asked.origin not in service.console.hosts:
        raise ForbiddenError(
            "origin is not among both [edge] frame_ancestors and cors_origins. Ask who runs the assistant."
        )
    token = request.headers["authorization"].partition(" ")[2].strip()
    codes = tenant.part(PanelCodes)
    return PanelCode(code=codes.make(token=token, context=asked.context, origin=asked.origin))


@router.post(
    "/v1/panel/sessions",
    responses=problems(400, 401, 413, 422, 429, 503),
    openapi_extra=body_of(PanelSessionRequest) | {"security": []},
)
async def open_panel_session(
    request: Request,
    service: ServiceOf,
    asked: Annotated[PanelSessionRequest, json_body(PanelSessionRequest)],
) -> PanelSession:
    """Return the tokens that a code carries: the agent's, which the issuer made, and the customer's context.
    The code alone gives access, so it is sent in the body: logs record addresses."""
    tenant = service.tenants.get(tenant_of_code(asked.code))
    # Browsers send the header: "same-origin" from the panel's page. Other clients do not send it.
    is_ours = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
    if tenant is None or asked.origin not in service.console.hosts or not is_ours:
        raise refused_code()
    codes = tenant.part(PanelCodes)
    grant = codes.open(asked.code, origin=asked.origin)
    service.count(await service.verifier.identify(f"Bearer {grant.token}"), "writes")
    await codes.use(asked.code)
    return PanelSession(access_token=grant.token, context=grant.context)


@router.get("/panel", include_in_schema=False)
async def panel_page(request: Request, service: ServiceOf) -> Response:
    """Return the console's page, for a frame in a page of ``hosts``, or for the pop-up in which a sign-in
    ends.

    The pop-up must keep its opener, so the page's ``cross-origin-opener-policy`` is ``unsafe-none``.
    """
    if not service.console.hosts:
        raise NotFoundError(NOT_FOUND)
    page = await console_page(request)
    headers = {**page.headers, "cross-origin-opener-policy": "unsafe-none"}
    return Response(page.body, page.status_code, headers=headers)
