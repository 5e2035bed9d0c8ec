"""Who may do what on a domain with fine-grained access control, and what its audit log holds.

Calls of the security plugin's REST API, which only the domain's master may make.
https://docs.opensearch.org/latest/security/access-control/api/
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from assistant.aws.opensearch_client import call
from assistant.settings.deployed_names import IndexAccess

if TYPE_CHECKING:
    from opensearchpy import AsyncOpenSearch

_TIMEOUT_S = 30.0
_API = "/_plugins/_security/api"
_SEEN = [
    "indices:data/read/*",
    "indices:admin/mappings/get",
    "indices:admin/get",
    "indices:admin/aliases/get",
]
_INDEX_ACTIONS: dict[IndexAccess, list[str]] = {
    "read": _SEEN,
    "write": [
        *_SEEN,
        "indices:data/write/*",
        "indices:admin/refresh*",
        "indices:admin/flush*",
        "indices:admin/forcemerge*",
    ],
}
_CLUSTER_ACTIONS: dict[IndexAccess, list[str]] = {
    "read": [],
    # Of a bulk write and of a deletion by query, which pages through what it deletes.
    "write": ["indices:data/write/bulk", "indices:data/read/scroll", "indices:data/read/scroll/clear"],
}


async def allow_index(
    client: AsyncOpenSearch, *, role: str, alias: str, access: IndexAccess, iam_role_arns: Sequence[str]
) -> None:
    """Make the domain's role ``role`` for one tenant's index, all versions of it, and map IAM roles to it.

    Neither may make, delete or change an index, an alias or a pipeline. Raises SearchUnavailableError.
    """
    body = {
        "description": f"{access} {alias}",
        "cluster_permissions": _CLUSTER_ACTIONS[access],
        "index_permissions": [
            {"index_patterns": [alias, f"{alias}-v*"], "allowed_actions": _INDEX_ACTIONS[access]}
        ],
    }
    await call(client, f"PUT {_API}/roles/{role}", body=body, timeout_s=_TIMEOUT_S)
    mapping = {"backend_roles": list(iam_role_arns), "hosts": [], "users": []}
    await call(client, f"PUT {_API}/rolesmapping/{role}", body=mapping, timeout_s=_TIMEOUT_S)


async def forbid_index(client: AsyncOpenSearch, *, role: str) -> None:
    """Take the mapping and the role away. Nothing there is no error. Raises SearchUnavailableError."""
    for kind in ("rolesmapping", "roles"):
        await call(client, f"DELETE {_API}/{kind}/{role}", timeout_s=_TIMEOUT_S, tolerated=("404",))


async def configure_audit(client: AsyncOpenSearch) -> None:
    """Log who was refused, who failed to sign, and every change of security and of indices; no bodies: they
    hold questions and passages. Raises SearchUnavailableError.

    https://docs.opensearch.org/latest/security/audit-logs/index/
    """
    await call(client, f"PUT {_API}/audit/config", body=_audit(), timeout_s=_TIMEOUT_S)


def _audit() -> dict[str, Any]:
    granted = ["AUTHENTICATED", "GRANTED_PRIVILEGES"]
    return {
        "enabled": True,
        "audit": {
            "enable_rest": True,
            "disabled_rest_categories": granted,  # each search would be a line
            "enable_transport": True,
            "disabled_transport_categories": granted,
            "log_request_body": False,
            "resolve_indices": True,
            "resolve_bulk_requests": False,
            "exclude_sensitive_headers": True,
            "ignore_users": [],
            "ignore_requests": [],
        },
        "compliance": {
            "enabled": True,
            "internal_config": True,
            "external_config": False,
            "read_metadata_only": True,
            "read_watched_fields": {},
            "read_ignore_users": [],
            "write_metadata_only": True,
            "write_log_diffs": False,
            "write_watched_indices": [],
            "write_ignore_users": [],
        },
    }
