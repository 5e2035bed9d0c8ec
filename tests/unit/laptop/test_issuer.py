"""Sign-in, tokens and the signing key of the local issuer."""

from __future__ import annotations

import base64
import hashlib
import re
import stat
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from assistant.domain.errors import ConfigurationError
from assistant.domain.identity import Role
from assistant.laptop.issuer import LocalIssuer
from assistant.laptop.tokens import (
    CARE_KEY,
    CareCase,
    Grant,
    TokenSigner,
    issue_context,
    issue_token,
    load_or_create_signing_key,
    public_key_set,
)
from tests.stage.tenant_stores import SteppedClock

ISSUER = "http://127.0.0.1:8701"
CONSOLE = "http://127.0.0.1:8700"
VERIFIER = "v" * 50
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=").decode()
REQUEST = {
    "response_type": "code",
    "client_id": "assistant-console",
    "redirect_uri": f"{CONSOLE}/",
    "state": "s&1",
    "nonce": "n",
    "code_challenge": CHALLENGE,
    "code_challenge_method": "S256",
    "scope": "openid",
}
FORM = {**REQUEST, "tenant": "clinic", "agent": "ann", "role": "agent"}


@pytest.fixture
def clock() -> SteppedClock:
    return SteppedClock()


def browser_at(tenants: Mapping[str, str], state_dir: Path, clock: SteppedClock) -> httpx.AsyncClient:
    issuer = LocalIssuer(
        signer=TokenSigner(load_or_create_signing_key(state_dir), ISSUER, clock),
        tenants=tenants,
        redirect_origins=frozenset({CONSOLE}),
        care_key=load_or_create_signing_key(state_dir, file=CARE_KEY),
    )
    return httpx.AsyncClient(transport=httpx.ASGITransport(app=issuer.application()), base_url=ISSUER)


@pytest.fixture
async def browser(tmp_path: Path, clock: SteppedClock) -> AsyncIterator[httpx.AsyncClient]:
    async with browser_at(
        {"clinic": "Clinic care", "pharmacy": "Pharmacy <care>"}, tmp_path, clock
    ) as client:
        yield client


def answer_of(response: httpx.Response) -> dict[str, str]:
    assert response.status_code == 303
    assert response.headers["location"].startswith(f"{CONSOLE}/?")
    return {
        name: values[0] for name, values in parse_qs(urlsplit(response.headers["location"]).query).items()
    }


async def code_of(browser: httpx.AsyncClient, **changes: str) -> str:
    return answer_of(await browser.post("/authorize", data=FORM | changes))["code"]


def redemption(code: str, **changes: str) -> dict[str, str]:
    return {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": f"{CONSOLE}/",
        "client_id": "assistant-console",
        "code_verifier": VERIFIER,
    } | changes


async def test_a_code_is_redeemed_for_tokens(browser: httpx.AsyncClient, tmp_path: Path) -> None:
    posted = await browser.post("/authorize", data=FORM)
    cookie, signed_in = posted.headers["set-cookie"].lower(), answer_of(posted)
    assert (signed_in["state"], signed_in["iss"]) == ("s&1", ISSUER)
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    response = await browser.post("/token", data=redemption(signed_in["code"]))
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    key = load_or_create_signing_key(tmp_path)
    access = jwt.decode(body["access_token"], key, algorithms=["ES256"]).claims
    assert (access["sub"], access["tenant"], access["aud"]) == ("ann", "clinic", "assistant")
    identity = jwt.decode(body["id_token"], key, algorithms=["ES256"]).claims
    assert (identity["aud"], identity["nonce"]) == ("assistant-console", "n")


async def test_a_code_is_good_once(browser: httpx.AsyncClient) -> None:
    code = await code_of(browser)
    assert (await browser.post("/token", data=redemption(code))).status_code == 200
    again = await browser.post("/token", data=redemption(code))
    assert (again.status_code, again.json()["error"]) == (400, "invalid_grant")


async def test_a_code_is_good_for_a_minute(browser: httpx.AsyncClient, clock: SteppedClock) -> None:
    code = await code_of(browser)
    clock.step(61)
    assert (await browser.post("/token", data=redemption(code))).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    "change",
    [{"code_verifier": "w" * 50}, {"code_verifier": ""}, {"client_id": "other"}, {"redirect_uri": CONSOLE}],
)
async def test_a_wrong_redemption_uses_the_code_up(
    browser: httpx.AsyncClient, change: dict[str, str]
) -> None:
    code = await code_of(browser)
    assert (await browser.post("/token", data=redemption(code, **change))).status_code == 400
    assert (await browser.post("/token", data=redemption(code))).status_code == 400


@pytest.mark.parametrize(
    "change",
    [
        {"redirect_uri": "http://evil.example/"},
        {"redirect_uri": f"{CONSOLE}@evil.example/"},
        {"redirect_uri": f"{CONSOLE}.evil.example/"},
        {"redirect_uri": f"{CONSOLE}/#x"},
        {"redirect_uri": f"{CONSOLE}/\r\nset-cookie: a"},
        {"redirect_uri": "http://[bad"},
        {"client_id": "other"},
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_an_untrusted_client_is_told_nothing(
    browser: httpx.AsyncClient, change: dict[str, str], method: str
) -> None:
    if method == "GET":
        response = await browser.get("/authorize", params=REQUEST | change)
    else:
        response = await browser.post("/authorize", data=FORM | change)
    assert response.status_code == 400
    assert "location" not in response.headers


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"code_challenge": ""}, "invalid_request"),
    ],
)
async def test_a_request_without_s256_goes_back_as_an_error(
    browser: httpx.AsyncClient, change: dict[str, str], error: str
) -> None:
    answer = answer_of(await browser.get("/authorize", params=REQUEST | change))
    assert (answer["error"], answer["state"]) == (error, "s&1")


async def test_the_page_escapes_what_comes_from_outside(browser: httpx.AsyncClient) -> None:
    response = await browser.get("/authorize", params=REQUEST | {"state": '"><script>alert(1)</script>'})
    assert response.status_code == 200
    assert "<script" not in response.text
    assert "Pharmacy &lt;care&gt;" in response.text


async def test_the_page_lets_nothing_in_from_outside(browser: httpx.AsyncClient) -> None:
    policy = (await browser.get("/authorize", params=REQUEST)).headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert f"form-action 'self' {CONSOLE}" in policy


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": "other"},
        {"agent": " "},
        {"agent": "a\nb"},
        {"agent": "a" * 65},
        {"role": "root"},
        {"role": []},
    ],
)
async def test_a_wrong_form_is_shown_again(browser: httpx.AsyncClient, change: dict[str, Any]) -> None:
    response = await browser.post("/authorize", data=FORM | change)
    assert response.status_code == 400
    assert 'role="alert"' in response.text
    assert CHALLENGE in response.text


async def test_who_signed_in_is_known_without_a_page(browser: httpx.AsyncClient, clock: SteppedClock) -> None:
    silent = REQUEST | {"prompt": "none"}
    assert answer_of(await browser.get("/authorize", params=silent))["error"] == "login_required"
    await code_of(browser)
    assert "code" in answer_of(await browser.get("/authorize", params=silent))
    clock.step(8 * 3600 + 1)
    assert answer_of(await browser.get("/authorize", params=silent))["error"] == "login_required"


async def test_signing_out_ends_the_session(browser: httpx.AsyncClient) -> None:
    await code_of(browser)
    leaving = {"client_id": "assistant-console", "post_logout_redirect_uri": f"{CONSOLE}/"}
    astray = leaving | {"post_logout_redirect_uri": "http://evil.example/"}
    assert (await browser.get("/end-session", params=astray)).status_code == 400
    assert (await browser.get("/end-session", params=leaving)).headers["location"] == f"{CONSOLE}/"
    silent = await browser.get("/authorize", params=REQUEST | {"prompt": "none"})
    assert answer_of(silent)["error"] == "login_required"


async def test_the_token_endpoint_speaks_to_the_console_s_origin_only(browser: httpx.AsyncClient) -> None:
    allowed = await browser.post("/token", headers={"origin": CONSOLE})
    assert allowed.headers["access-control-allow-origin"] == CONSOLE
    other = await browser.post("/token", headers={"origin": "http://evil.example"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize("body", [b"\xff=1", b"a=" + b"x" * 20_000, b"a=1&" * 60])
async def test_an_unreadable_form_is_no_token(browser: httpx.AsyncClient, body: bytes) -> None:
    headers = {"content-type": "application/x-www-form-urlencoded"}
    assert (await browser.post("/token", content=body, headers=headers)).status_code == 400


def options_of(page: str) -> list[tuple[str, str, bool]]:
    """Return (value, text, selected) of each option of the tenant's list, in order."""
    found = re.findall(r'<option value="([^"]*)"( selected)?>([^<]*)</option>', page)
    return [(value, text, bool(selected)) for value, selected, text in found]


async def test_a_tenant_is_chosen_by_its_exact_name_where_display_names_are_alike(
    tmp_path: Path, clock: SteppedClock
) -> None:
    names = ["mine", "pharmacy", "sandbox"]
    async with browser_at(dict.fromkeys(names, "Pharmacy care"), tmp_path, clock) as client:
        shown = options_of((await client.get("/authorize", params=REQUEST)).text)
        # A browser's list goes to the first option that begins with what is typed.
        typed = [value for value, text, _ in shown if text.lower().startswith("pharm")]
        assert typed == ["pharmacy"]
        assert shown[0] == ("", "Choose a tenant", True)
        assert [text for _, text, _ in shown[1:]] == [f"{name} · Pharmacy care" for name in names]
        for other in ("Pharmacy care", "Pharm", ""):
            refused = await client.post("/authorize", data=FORM | {"tenant": other})
            assert refused.status_code == 400
            assert "exact name: mine, pharmacy, sandbox." in refused.text


def test_a_token_says_what_the_grant_says_for_eight_hours(tmp_path: Path) -> None:
    clock = SteppedClock()
    grant = Grant("clinic", "ann", roles=(Role.AGENT, Role.AUDITOR), labels=("hr",))
    token = issue_token(grant, state_dir=tmp_path, issuer="http://issuer", clock=clock)
    read = jwt.decode(token, load_or_create_signing_key(tmp_path), algorithms=["ES256"])
    now = int(clock.now().timestamp())
    assert read.claims == {
        "iss": "http://issuer",
        "aud": "assistant",
        "iat": now,
        "exp": now + 8 * 3600,
        "sub": "ann",
        "tenant": "clinic",
        "roles": ["agent", "auditor"],
        "labels": ["hr"],
    }


def test_the_key_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    load_or_create_signing_key(tmp_path)
    file = tmp_path / "issuer" / "signing-key.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(file.parent.iterdir()) == [file]


def test_processes_that_make_it_at_once_end_with_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(load_or_create_signing_key, [tmp_path] * 8))
    assert len({key.kid for key in keys}) == 1


@pytest.mark.parametrize("content", ["", "{}", "not json", '{"kty":"oct","k":"c2VjcmV0"}'])
def test_a_broken_key_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "issuer" / "signing-key.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ConfigurationError, match=r"signing-key\.json"):
        load_or_create_signing_key(tmp_path)


def test_the_published_set_holds_no_private_part(tmp_path: Path) -> None:
    published = public_key_set(load_or_create_signing_key(tmp_path))["keys"][0]
    assert "d" not in published
    assert (published["alg"], published["use"], published["crv"]) == ("ES256", "sig", "P-256")


async def test_a_context_is_signed_with_the_care_applications_key(
    browser: httpx.AsyncClient, tmp_path: Path, clock: SteppedClock
) -> None:
    case = CareCase("PT-204417", {"order": ("4471-2208",)})
    context = issue_context(
        case,
        Grant("clinic", "ann"),
        state_dir=tmp_path,
        issuer="https://care.example",
        audience="assistant-context",
        clock=clock,
    )
    published = KeySet.import_key_set((await browser.get("/care/jwks.json")).json())
    issuers = KeySet.import_key_set((await browser.get("/jwks.json")).json())

    claims = jwt.decode(context, published, algorithms=["ES256"]).claims

    now = int(clock.now().timestamp())
    assert len(claims.pop("jti")) == 32  # each is of one question
    assert claims == {
        "iss": "https://care.example",
        "aud": "assistant-context",
        "iat": now,
        "exp": now + 300,
        "tenant": "clinic",
        "agent": "ann",
        "customer": "PT-204417",
        "ids": {"order": ["4471-2208"]},
    }
    with pytest.raises(JoseError):
        jwt.decode(context, issuers, algorithms=["ES256"])
