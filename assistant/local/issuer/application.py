"""The local OpenID provider: discovery, keys, sign-in page and token endpoint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from assistant.domain.identity import Role
from assistant.local.issuer.authorization import (
    AuthorizationCodes,
    AuthorizationError,
    AuthorizationRequest,
    UntrustedClientError,
    authorization_request,
    trusted_client,
)
from assistant.local.issuer.sessions import SESSION_COOKIE, Sessions
from assistant.local.issuer.sign_in_page import STYLE, refusal_page, sign_in_page
from assistant.local.issuer.signing_key import ALGORITHM, public_key_set
from assistant.local.issuer.tokens import TOKEN_LIFETIME_S, Grant, TokenSigner

_FORM_LIMIT_BYTES = 16 * 1024
_CARRIED = (
    "client_id",
    "redirect_uri",
    "response_type",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "scope",
)
_PLAIN_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_NO_STORE = {"Cache-Control": "no-store", **_PLAIN_HEADERS}


@dataclass(slots=True)
class LocalIssuer:
    """The routes and what they need. The signer's issuer is the base URL that discovery promises."""

    signer: TokenSigner
    tenants: Mapping[str, str]
    """Name → display name."""
    redirect_origins: frozenset[str]
    _codes: AuthorizationCodes = field(init=False)
    _sessions: Sessions = field(init=False)

    def __post_init__(self) -> None:
        self._codes = AuthorizationCodes(clock=self.signer.clock)
        self._sessions = Sessions(clock=self.signer.clock)

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.discovery, methods=["GET"]),
                Route("/jwks.json", self.keys, methods=["GET"]),
                Route("/authorize", self.show_sign_in, methods=["GET"]),
                Route("/authorize", self.sign_in, methods=["POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/token", self.preflight, methods=["OPTIONS"]),
                Route("/end-session", self.sign_out, methods=["GET"]),
                Route("/sign-in.css", self.style, methods=["GET"]),
                Route("/healthz", self.alive, methods=["GET"]),
            ]
        )

    async def discovery(self, request: Request) -> Response:
        document = {
            "issuer": self.signer.issuer,
            "authorization_endpoint": f"{self.signer.issuer}/authorize",
            "token_endpoint": f"{self.signer.issuer}/token",
            "end_session_endpoint": f"{self.signer.issuer}/end-session",
            "jwks_uri": f"{self.signer.issuer}/jwks.json",
            "response_types_supported": ["code"],
            "grant_types_supported": ["authorization_code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "scopes_supported": ["openid"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(document, headers=_PLAIN_HEADERS | self._cors(request))

    async def keys(self, request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=300", **_PLAIN_HEADERS}
        return JSONResponse(public_key_set(self.signer.key), headers=headers | self._cors(request))

    async def show_sign_in(self, request: Request) -> Response:
        """Show the page; with ``prompt=none`` answer at once, from the session or with login_required."""
        parameters = dict(request.query_params)
        asked = self._checked(parameters)
        if isinstance(asked, Response):
            return asked
        if parameters.get("prompt") == "none":
            grant = self._sessions.find(request.cookies.get(SESSION_COOKIE))
            return (
                self._back(asked, {"error": "login_required"}) if grant is None else self._code(asked, grant)
            )
        return self._page(parameters, entered={})

    async def sign_in(self, request: Request) -> Response:
        form = await _read_form(request) or {}
        parameters = {name: values[0] for name, values in form.items() if name in _CARRIED}
        asked = self._checked(parameters)
        if isinstance(asked, Response):
            return asked
        grant = _grant(form, tenants=self.tenants)
        if not isinstance(grant, Grant):
            return self._page(parameters, entered=form, problem=grant)
        response = self._code(asked, grant)
        response.set_cookie(SESSION_COOKIE, self._sessions.begin(grant), httponly=True, samesite="lax")
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the session (OpenID Connect RP-Initiated Logout 1.0) and go back to the console."""
        self._sessions.end(request.cookies.get(SESSION_COOKIE))
        wanted = {
            **request.query_params,
            "redirect_uri": request.query_params.get("post_logout_redirect_uri", ""),
        }
        try:
            target = trusted_client(wanted, redirect_origins=self.redirect_origins)
        except UntrustedClientError as error:
            return self._html(refusal_page(error.description), status=400)
        response = RedirectResponse(target, 303, headers=_NO_STORE)
        response.delete_cookie(SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    def _checked(self, parameters: Mapping[str, str]) -> AuthorizationRequest | Response:
        """Return what the client asks for, or the answer to a request that breaks the protocol."""
        try:
            redirect_uri = trusted_client(parameters, redirect_origins=self.redirect_origins)
        except UntrustedClientError as error:
            return self._html(refusal_page(error.description), status=400)
        try:
            return authorization_request(parameters, redirect_uri=redirect_uri)
        except AuthorizationError as error:
            client = AuthorizationRequest("", redirect_uri, parameters.get("state", ""), "", None)
            return self._back(client, {"error": error.error, "error_description": error.description})

    def _back(self, asked: AuthorizationRequest, answer: Mapping[str, str]) -> Response:
        return RedirectResponse(asked.redirect(answer, issuer=self.signer.issuer), 303, headers=_NO_STORE)

    def _code(self, asked: AuthorizationRequest, grant: Grant) -> Response:
        return self._back(asked, {"code": self._codes.issue(asked, grant)})

    def _page(
        self,
        parameters: Mapping[str, str],
        *,
        entered: Mapping[str, Sequence[str]],
        problem: str | None = None,
    ) -> Response:
        hidden = {name: parameters[name] for name in _CARRIED if name in parameters}
        page = sign_in_page(tenants=self.tenants, hidden=hidden, entered=entered, problem=problem)
        return self._html(page, status=400 if problem else 200)

    async def token(self, request: Request) -> Response:
        headers = _NO_STORE | self._cors(request)
        form = await _read_form(request) or {}
        try:
            issued = self._codes.redeem({name: values[0] for name, values in form.items()})
        except AuthorizationError as error:
            body = {"error": error.error, "error_description": error.description}
            return JSONResponse(body, 400, headers=headers)
        client_id, nonce = issued.request.client_id, issued.request.nonce
        return JSONResponse(
            {
                "access_token": self.signer.access_token(issued.grant),
                "id_token": self.signer.id_token(issued.grant, client_id=client_id, nonce=nonce),
                "token_type": "Bearer",
                "expires_in": TOKEN_LIFETIME_S,
                "scope": "openid",
            },
            headers=headers,
        )

    async def preflight(self, request: Request) -> Response:
        allowed = self._cors(request)
        if "Access-Control-Allow-Origin" in allowed:
            allowed |= {
                "Access-Control-Allow-Methods": "POST",
                "Access-Control-Allow-Headers": "content-type",
                "Access-Control-Max-Age": "600",
            }
        return Response(status_code=204, headers=allowed)

    async def style(self, _request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=300", **_PLAIN_HEADERS}
        return Response(STYLE, media_type="text/css", headers=headers)

    async def alive(self, _request: Request) -> Response:
        return JSONResponse({"alive": True}, headers=_NO_STORE)

    def _cors(self, request: Request) -> dict[str, str]:
        origin = request.headers.get("origin", "")
        allowed = {"Access-Control-Allow-Origin": origin} if origin in self.redirect_origins else {}
        return {"Vary": "Origin", **allowed}

    def _html(self, page: str, *, status: int) -> Response:
        # form-action covers where a submitted form is redirected to, so the consoles stand in it
        targets = " ".join(["'self'", *sorted(self.redirect_origins)])
        policy = (
            "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
            f"form-action {targets}"
        )
        headers = {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", **_NO_STORE}
        return HTMLResponse(page, status, headers=headers)


async def _read_form(request: Request) -> dict[str, list[str]] | None:
    """Return the form's fields, or None when it is too large, not UTF-8 or not a form."""
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        return None
    body = bytearray()
    try:
        async for part in request.stream():
            body += part
            if len(body) > _FORM_LIMIT_BYTES:
                return None
        return parse_qs(body.decode(), keep_blank_values=True, max_num_fields=50, errors="strict")
    except (ValueError, ClientDisconnect):
        return None


def _grant(entered: Mapping[str, Sequence[str]], *, tenants: Mapping[str, str]) -> Grant | str:
    """Return who signed in, or what to mend in the form."""
    tenant = next(iter(entered.get("tenant", ())), "")
    agent = next(iter(entered.get("agent", ())), "").strip()
    if tenant not in tenants:
        return f"Choose one of the tenants by its exact name: {', '.join(tenants)}."
    if not 1 <= len(agent) <= 64 or not agent.isprintable():
        return "Enter an agent name of 1 to 64 printable characters."
    try:
        roles = tuple(Role(role) for role in entered.get("role", ()))
    except ValueError:
        return "Choose among the roles shown."
    if not roles:
        return "Choose at least one role."
    return Grant(tenant=tenant, agent=agent, roles=roles)
