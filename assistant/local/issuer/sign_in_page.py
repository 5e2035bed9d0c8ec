"""The sign-in page: plain HTML that needs no script. All that comes from outside is escaped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

from assistant.domain.identity import Role

STYLE = """
:root { color-scheme: light; font: 16px/1.5 system-ui, sans-serif; color: #17202a; background: #eef2f5; }
body { margin: 0; min-height: 100vh; display: grid; place-items: center; }
main { background: #fff; border: 1px solid #c3ccd5; border-radius: 8px; padding: 24px 32px 32px;
  width: min(26rem, calc(100vw - 32px)); box-sizing: border-box; }
h1 { font-size: 1.4rem; margin: 0 0 .25rem; }
p.note { margin: 0 0 1rem; color: #46535f; }
label, legend { font-weight: 600; }
.field { margin: 0 0 1rem; border: 0; padding: 0; }
.field > label { display: block; }
.choice label { font-weight: 400; }
input[type=text], select { font: inherit; width: 100%; box-sizing: border-box; padding: 8px 10px;
  border: 1px solid #66737f; border-radius: 4px; background: #fff; color: inherit; }
button { font: inherit; font-weight: 600; padding: 10px 20px; border: 0; border-radius: 4px;
  background: #0b5394; color: #fff; cursor: pointer; }
:focus-visible { outline: 3px solid #0b5394; outline-offset: 2px; }
.error { border-left: 4px solid #a61b1b; background: #fdf0f0; padding: 8px 12px; margin: 0 0 1rem; }
"""

_ROLE_NAMES = {
    Role.AGENT: "Care agent: asks questions and answers patients",
    Role.KNOWLEDGE_OWNER: "Knowledge owner: brings and withdraws documents",
    Role.AUDITOR: "Auditor: reads all answers; each read is recorded",
}


def sign_in_page(
    *,
    tenants: Mapping[str, str],
    hidden: Mapping[str, str],
    entered: Mapping[str, Sequence[str]],
    problem: str | None = None,
) -> str:
    """Return the page. ``tenants``: name → display name; ``hidden``: the client's request, carried through
    the form; ``entered``: what was filled in before; ``problem``: what to mend."""
    tenant = next(iter(entered.get("tenant", ())), "")
    agent = next(iter(entered.get("agent", ())), "")
    roles = entered.get("role", (Role.AGENT,)) or ()
    options = _tenant_options(tenants, chosen=next(iter(tenants)) if len(tenants) == 1 else tenant)
    alert = f'<p class="error" id="problem" role="alert">{escape(problem)}</p>' if problem else ""
    described = ' aria-describedby="problem" aria-invalid="true"' if problem else ""
    return _page(
        "Sign in",
        f"""<h1>Sign in</h1>
<p class="note">The local issuer: it believes what you enter.</p>
{alert}<form method="post" action="/authorize">
{_hidden_inputs(hidden)}
<div class="field"><label for="tenant">Tenant</label>
<select id="tenant" name="tenant" required>{options}</select></div>
<div class="field"><label for="agent">Agent name</label>
<input type="text" id="agent" name="agent" value="{escape(agent)}" required maxlength="64"
 autocomplete="username" spellcheck="false"{described}></div>
<fieldset class="field choice"><legend>Roles</legend>
{_role_inputs(roles)}</fieldset>
<button type="submit">Sign in</button>
</form>""",
    )


def refusal_page(description: str) -> str:
    """Return the page for a request that may not be answered to the client."""
    return _page("Sign-in refused", f'<h1>Sign-in refused</h1>\n<p role="alert">{escape(description)}</p>')


def _tenant_options(tenants: Mapping[str, str], *, chosen: str) -> str:
    """Begin each option with the tenant's own name: display names may be alike, and typing finds beginnings.

    Nobody signs in to a tenant that they did not choose, so the first option is none.
    """
    options = "".join(
        f'<option value="{escape(name)}"{" selected" if name == chosen else ""}>'
        f"{escape(name)} · {escape(shown)}</option>"
        for name, shown in tenants.items()
    )
    return options if chosen in tenants else f'<option value="" selected>Choose a tenant</option>{options}'


def _hidden_inputs(hidden: Mapping[str, str]) -> str:
    return "\n".join(
        f'<input type="hidden" name="{escape(name)}" value="{escape(value)}">'
        for name, value in hidden.items()
    )


def _role_inputs(chosen: Sequence[str]) -> str:
    return "\n".join(
        f'<div><input type="checkbox" id="role-{role}" name="role" value="{role}"'
        f'{" checked" if role in chosen else ""}> <label for="role-{role}">{escape(shown)}</label></div>'
        for role, shown in _ROLE_NAMES.items()
    )


def _page(title: str, body: str) -> str:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="stylesheet" href="/sign-in.css">
</head>
<body>
<main>
{body}
</main>
</body>
</html>
"""
