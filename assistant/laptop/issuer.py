"""The local OpenID provider: it signs in anybody as anybody, on this machine alone.

The console redirects a browser to ``/authorize``; the person fills in the form (sign_in.html) with a tenant,
a name and roles; the browser returns to the console with a code, and the console redeems it at ``/token`` for
an access token. ``tokens`` checks the requests and makes codes and tokens; this module has the routes and
pages.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from joserfc.jwk import ECKey
from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from assistant.domain.clock import SystemClock
from assistant.domain.identity import Role
from assistant.laptop import tokens

_FOLDER = Path(__file__).parent
_ROLE_NAMES = {
    Role.AGENT: "Care agent: asks questions and answers patients",
    Role.KNOWLEDGE_OWNER: "Knowledge owner: brings and withdraws documents",
    Role.AUDITOR: "Auditor: reads all answers; each read is recorded",
    Role.REVIEWER: "Reviewer: works the desk: bad answers, gaps and approved answers",
    Role.MANAGER: "Manager: sees numbers of questions and answers, no words of them",
}


_PAGES = Environment(loader=FileSystemLoader(_FOLDER), autoescape=True, undefined=StrictUndefined)
_SESSION_COOKIE = "assistant_issuer_session"
_FORM_LIMIT_BYTES = 16 * 1024
_REQUEST_FIELDS = (
    "client_id",
    "redirect_uri",
    "response_type",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "scope",
)
"""Parameters of ``/authorize`` that the form carries on as hidden fields, so that its POST can be checked
too."""
_SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}
_NO_STORE = {"Cache-Control": "no-store", **_SAFE_HEADERS}


@dataclass(slots=True)
class LocalIssuer:
    """The issuer's routes (``application``). The signer's ``issuer`` is the base URL of all of them."""

    signer: tokens.TokenSigner
    tenants: Mapping[str, str]
    """Display name by name."""
    redirect_origins: frozenset[str]
    """Origins of the consoles, "http://127.0.0.1:8700": the only ones that a browser is sent back to."""
    care_key: ECKey
    """Key of the local care application, whose public half ``/care/jwks.json`` shows."""
    _codes: tokens.Codes = field(init=False)
    _sessions: tokens.ExpiringSecrets[tokens.Grant] = field(init=False)
    """Who signed in, by the session cookie; in memory, so that after a restart of the issuer everybody signs
    in again."""

    def __post_init__(self) -> None:
        self._codes = tokens.ExpiringSecrets(clock=self.signer.clock, lifetime_s=tokens.CODE_LIFETIME_S)
        self._sessions = tokens.ExpiringSecrets(clock=self.signer.clock, lifetime_s=tokens.TOKEN_LIFETIME_S)

    def application(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.discovery, methods=["GET"]),
                Route("/jwks.json", self.keys, methods=["GET"]),
                Route("/care/jwks.json", self.care_keys, methods=["GET"]),
                Route("/authorize", self.show_sign_in, methods=["GET"]),
                Route("/authorize", self.sign_in, methods=["POST"]),
                Route("/token", self.token, methods=["POST"]),
                Route("/end-session", self.sign_out, methods=["GET"]),
                Route("/sign-in.css", self.style, methods=["GET"]),
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
            "id_token_signing_alg_values_supported": [tokens.ALGORITHM],
            "scopes_supported": ["openid"],
            "token_endpoint_auth_methods_supported": ["none"],
            "code_challenge_methods_supported": ["S256"],
            "authorization_response_iss_parameter_supported": True,
        }
        return JSONResponse(document, headers=_SAFE_HEADERS | self._cors(request))

    async def keys(self, request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=300", **_SAFE_HEADERS}
        return JSONResponse(tokens.public_key_set(self.signer.key), headers=headers | self._cors(request))

    async def care_keys(self, _request: Request) -> Response:
        return JSONResponse(tokens.public_key_set(self.care_key), headers=_SAFE_HEADERS)

    async def show_sign_in(self, request: Request) -> Response:
        """Show the form. With ``prompt=none`` redirect at once instead: with a code for the session's person,
        or with the error login_required."""
        parameters = dict(request.query_params)
        authorization = self._checked_request(parameters)
        if isinstance(authorization, Response):
            return authorization
        if parameters.get("prompt") == "none":
            grant = self._sessions.find(request.cookies.get(_SESSION_COOKIE))
            if grant is None:
                return self._redirect(authorization, {"error": "login_required"})
            return self._redirect_with_code(authorization, grant)
        return self._page(parameters, entered={})

    async def sign_in(self, request: Request) -> Response:
        """Take the form: redirect with a code and begin a session, or show the form again with what to
        correct."""
        form = await _read_form(request) or {}
        parameters = {name: values[0] for name, values in form.items() if name in _REQUEST_FIELDS}
        authorization = self._checked_request(parameters)
        if isinstance(authorization, Response):
            return authorization
        grant = _grant_of_form(form, tenants=self.tenants)
        if not isinstance(grant, tokens.Grant):
            return self._page(parameters, entered=form, problem=grant)
        response = self._redirect_with_code(authorization, grant)
        response.set_cookie(_SESSION_COOKIE, self._sessions.add(grant), httponly=True, samesite="lax")
        return response

    async def sign_out(self, request: Request) -> Response:
        """Forget the session (OpenID Connect RP-Initiated Logout 1.0) and go back to the console."""
        self._sessions.take(request.cookies.get(_SESSION_COOKIE))
        as_request = {
            **request.query_params,
            "redirect_uri": request.query_params.get("post_logout_redirect_uri", ""),
        }
        try:
            target = tokens.trusted_client(as_request, redirect_origins=self.redirect_origins)
        except tokens.UntrustedClientError as error:
            return self._html(status=400, refusal=error.description)
        response = RedirectResponse(target, 303, headers=_NO_STORE)
        response.delete_cookie(_SESSION_COOKIE, httponly=True, samesite="lax")
        return response

    def _checked_request(self, parameters: Mapping[str, str]) -> tokens.AuthorizationRequest | Response:
        """Return the client's request; for an invalid one the response: a page for an untrusted client, to
        whose address nothing is sent, else a redirect with the error."""
        try:
            redirect_uri = tokens.trusted_client(parameters, redirect_origins=self.redirect_origins)
        except tokens.UntrustedClientError as error:
            return self._html(status=400, refusal=error.description)
        try:
            return tokens.authorization_request(parameters, redirect_uri=redirect_uri)
        except tokens.AuthorizationError as error:
            client = tokens.AuthorizationRequest("", redirect_uri, parameters.get("state", ""), "", None)
            return self._redirect(client, {"error": error.error, "error_description": error.description})

    def _redirect(self, request: tokens.AuthorizationRequest, answer: Mapping[str, str]) -> Response:
        """Send the browser back to the client, with these parameters."""
        return RedirectResponse(request.redirect(answer, issuer=self.signer.issuer), 303, headers=_NO_STORE)

    def _redirect_with_code(self, request: tokens.AuthorizationRequest, grant: tokens.Grant) -> Response:
        return self._redirect(request, {"code": self._codes.add((request, grant))})

    def _page(
        self,
        parameters: Mapping[str, str],
        *,
        entered: Mapping[str, Sequence[str]],
        problem: str | None = None,
    ) -> Response:
        """Return the page with the form. ``parameters``: the client's request; ``entered``: values to fill
        in; ``problem``: what to correct, None at first."""
        only_tenant = next(iter(self.tenants)) if len(self.tenants) == 1 else ""
        return self._html(
            status=400 if problem else 200,
            tenants=self.tenants,
            tenant=only_tenant or next(iter(entered.get("tenant", ())), ""),
            agent=next(iter(entered.get("agent", ())), ""),
            roles=entered.get("role", (Role.AGENT,)),
            role_names=_ROLE_NAMES,
            hidden={name: parameters[name] for name in _REQUEST_FIELDS if name in parameters},
            problem=problem,
        )

    async def token(self, request: Request) -> Response:
        """Redeem a code for tokens (RFC 6749, section 4.1.3)."""
        headers = _NO_STORE | self._cors(request)
        form = await _read_form(request) or {}
        try:
            client, grant = tokens.redeem_code(
                self._codes, {name: values[0] for name, values in form.items()}
            )
        except tokens.AuthorizationError as error:
            body = {"error": error.error, "error_description": error.description}
            return JSONResponse(body, 400, headers=headers)
        return JSONResponse(
            {
                "access_token": self.signer.access_token(grant),
                "id_token": self.signer.id_token(grant, client_id=client.client_id, nonce=client.nonce),
                "token_type": "Bearer",
                "expires_in": tokens.TOKEN_LIFETIME_S,
                "scope": "openid",
            },
            headers=headers,
        )

    async def style(self, _request: Request) -> Response:
        headers = {"Cache-Control": "public, max-age=300", **_SAFE_HEADERS}
        return FileResponse(_FOLDER / "sign_in.css", headers=headers)

    def _cors(self, request: Request) -> dict[str, str]:
        """Return the headers that let a console's page read the response."""
        origin = request.headers.get("origin", "")
        allowed = {"Access-Control-Allow-Origin": origin} if origin in self.redirect_origins else {}
        return {"Vary": "Origin", **allowed}

    def _html(self, *, status: int, refusal: str | None = None, **shown: Any) -> Response:
        """Return the page sign_in.html: with a ``refusal`` that alone, else the form with the template's
        values ``shown``."""
        page = _PAGES.get_template("sign_in.html").render(refusal=refusal, **shown)
        # Browsers apply form-action to the redirect after the form too, so it must list the consoles.
        targets = " ".join(["'self'", *sorted(self.redirect_origins)])
        policy = (
            "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
            f"form-action {targets}"
        )
        headers = {"Content-Security-Policy": policy, "X-Frame-Options": "DENY", **_NO_STORE}
        return HTMLResponse(page, status, headers=headers)


async def _read_form(request: Request) -> dict[str, list[str]] | None:
    """Return the values of each field of the form; None if it is too large, not UTF-8 or no form."""
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


def _grant_of_form(entered: Mapping[str, Sequence[str]], *, tenants: Mapping[str, str]) -> tokens.Grant | str:
    """Return who signs in by the form's fields, or a sentence on what to correct in it."""
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
    return tokens.Grant(tenant=tenant, agent=agent, roles=roles)


def issuer_application(
    url: str, *, state_dir: Path, tenants: Mapping[str, str], redirect_origins: frozenset[str]
) -> Starlette:
    """Return the issuer that answers at ``url``, with the keys in the state folder.

    ``tenants``: name → display name. Raises ConfigurationError.
    """
    signer = tokens.TokenSigner(
        key=tokens.load_or_create_signing_key(state_dir), issuer=url, clock=SystemClock()
    )
    care_key = tokens.load_or_create_signing_key(state_dir, file=tokens.CARE_KEY)
    return LocalIssuer(signer, tenants, redirect_origins, care_key).application()
