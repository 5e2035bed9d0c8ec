"""Health and the description of the API for callers; readiness and metrics for operators alone."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response

from assistant.api.auth import Service, ServiceOf
from assistant.api.metrics import CONTENT_TYPE
from assistant.api.openapi import openapi_document, rendered
from assistant.api.readiness import ReadinessProbe
from assistant.api.wire import Readiness

router = APIRouter(tags=["operation"])
_operations = APIRouter()
_OPENAPI: dict[str, Any] = {"content": {"application/json": {"schema": {"type": "object"}}}}


@router.get("/healthz")
async def alive() -> dict[str, bool]:
    """The process answers; nothing else is asked. The only check for balancers."""
    return {"alive": True}


@_operations.get("/readyz")
async def ready(request: Request, response: Response) -> Readiness:
    """Every dependency of every tenant, each within 5 s; up to a second old."""
    probe: ReadinessProbe = request.app.state.readiness
    readiness = await probe.latest()
    response.status_code = 200 if readiness.ready else 503
    return readiness


@_operations.get("/metrics")
async def metrics(service: ServiceOf) -> Response:
    """Metrics for Prometheus."""
    return Response(service.metrics.text(), media_type=CONTENT_TYPE)


def operations_application(service: Service) -> FastAPI:
    """Return what the listener for operators serves: nothing of it is for callers."""
    application = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    application.include_router(_operations)
    application.add_api_route("/healthz", alive)
    application.state.service = service
    application.state.readiness = ReadinessProbe(service)
    return application


@router.get("/openapi.json", response_class=Response, responses={200: _OPENAPI})
async def openapi(request: Request) -> Response:
    """This description."""
    state = request.app.state
    if not hasattr(state, "openapi"):
        state.openapi = rendered(openapi_document(request.app))
    return Response(state.openapi, media_type="application/json")
