"""The OpenSearch node that local processes search when the settings say so."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from assistant.domain.errors import LocalRuntimeError
from assistant.settings.process import LocalSettings

_ANSWER_WITHIN_S = 3.0
_DEFAULT_URL = LocalSettings.model_fields["opensearch_url"].default


def require_node(settings: LocalSettings) -> None:
    """Return when no node is searched, or one answers. Raises LocalRuntimeError in one sentence."""
    if settings.search == "opensearch" and not _answers(settings.opensearch_url):
        raise LocalRuntimeError(
            f"No OpenSearch node answers at {settings.opensearch_url}; start one with make opensearch-up, "
            f"or name another with {LocalSettings.variable('opensearch_url')}."
        )


def bring_up_node(settings: LocalSettings, *, say: Callable[[str], None]) -> None:
    """As ``require_node``, but start this machine's own node when it does not run yet.

    It goes on running afterwards, as ``make opensearch-up`` leaves it. Raises LocalRuntimeError.
    """
    if settings.search != "opensearch":
        return
    if _answers(settings.opensearch_url):
        say(f"searching the OpenSearch node at {settings.opensearch_url}")
        return
    if settings.opensearch_url == _DEFAULT_URL:
        from tools.opensearch.__main__ import OpenSearchNodeSettings, choose_node

        say(f"no OpenSearch node answers at {settings.opensearch_url}: starting one (make opensearch-up)")
        choose_node(OpenSearchNodeSettings.read()).up(say)
        say("the node goes on running afterwards; make opensearch-down stops it")
    require_node(settings)


def _answers(url: str) -> bool:
    try:
        found = httpx.get(f"{url}/_cluster/health", timeout=_ANSWER_WITHIN_S, trust_env=False)
    except httpx.HTTPError:
        return False
    return found.status_code == 200
