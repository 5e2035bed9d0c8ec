"""Health, readiness and metrics endpoints, and the description of the API."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from assistant.service.metrics import CONTENT_TYPE
from assistant.service.openapi import openapi_document, rendered
from assistant.service.readiness import check_readiness
from assistant.service.wire import Readiness
from assistant.service.wiring import ServiceOf

router = APIRouter(tags=["operation"])
_OPENAPI: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}


@router.get("/healthz")
async def alive() -> dict[str, bool]:
    """The process answers; nothing else is asked. The only check for balancers."""
    return {"alive": True}


@router.get("/readyz", responses={503: {"model": Readiness, "description": "Some check failed"}})
async def ready(service: ServiceOf, response: Response) -> Readiness:
    """Every dependency of every tenant, each within 5 s."""
    readiness = await check_readiness(service)
    response.status_code = 200 if readiness.ready else 503
    return readiness


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(service: ServiceOf) -> Response:
    """Metrics for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


@router.get("/openapi.json", response_class=Response, responses={200: _OPENAPI})
async def openapi(request: Request) -> Response:
    """This description."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = rendered(openapi_document(request.app))
    return Response(state.openapi, media_type="application/json")
