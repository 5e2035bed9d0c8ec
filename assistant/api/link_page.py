"""The page behind the links to documents in an answer: it opens in any browser, without a sign-in.

A link's token stands in the address's fragment, which a browser keeps to itself. The page takes it out of the
address bar and the history, posts it, and shows the text that comes back, as text. So no log on the way holds
anything that opens a document.
"""

from __future__ import annotations

import base64
import hashlib

from fastapi import APIRouter
from starlette.responses import HTMLResponse

from assistant.document_links import LINK_PAGE

LINKED_PATH = "/v1/documents/linked"
_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 48rem; padding: 1rem; }
pre { font: inherit; white-space: pre-wrap; overflow-wrap: anywhere; }
"""
_SCRIPT = f"""
"use strict";
const token = location.hash.slice(1);
history.replaceState(null, "", location.pathname);
const show = (id, text) => {{ document.getElementById(id).textContent = text; }};
const open = async () => {{
  const response = await fetch("{LINKED_PATH}", {{
    method: "POST",
    headers: {{ "content-type": "application/json" }},
    body: JSON.stringify({{ token }}),
    credentials: "omit",
  }});
  const body = await response.json();
  if (!response.ok) {{
    show("title", body.title);
    show("note", body.detail);
    return;
  }}
  document.title = body.title;
  show("title", body.title);
  show("note", body.is_cited_version ? "" :
    "The document has changed since this answer was written, so the passage is not marked.");
  const letters = Array.from(body.text);
  const [start, end] = body.span ?? [0, 0];
  const passage = document.createElement("mark");
  passage.textContent = letters.slice(start, end).join("");
  const before = letters.slice(0, start).join(""), after = letters.slice(end).join("");
  document.getElementById("text").replaceChildren(before, passage, after);
  if (body.span !== null) passage.scrollIntoView({{ block: "center" }});
}};
if (token === "") {{
  show("title", "No document");
  show("note", "A link works once in each tab: open it from the answer again.");
}} else {{
  open().catch(() => {{
    show("title", "Not reachable");
    show("note", "The service did not answer. Open the link from the answer again.");
  }});
}}
"""


def _hash_source(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"


_PAGE = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Stored text</title><style>{_STYLE}</style></head>
<body><main><h1 id="title">Opening…</h1><p id="note" role="status"></p><pre id="text"></pre></main>
<script>{_SCRIPT}</script></body></html>
"""
_HEADERS = {
    "content-security-policy": (
        f"default-src 'none'; script-src {_hash_source(_SCRIPT)}; style-src {_hash_source(_STYLE)}; "
        "connect-src 'self'; form-action 'none'; frame-ancestors 'none'; base-uri 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "x-frame-options": "DENY",
}
router = APIRouter(include_in_schema=False)


@router.get(LINK_PAGE)
async def link_page() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers=_HEADERS)
