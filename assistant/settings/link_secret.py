"""What KMS holds the secret of a tenant's document links to: who makes it, reads it and grants that agree."""

from __future__ import annotations

LINK_SECRET_PURPOSE = "document-links"  # noqa: S105 - what it is for


def link_secret_context(tenant: str) -> dict[str, str]:
    """Return the encryption context under which the tenant's secret is encrypted."""
    return {"tenant": tenant, "purpose": LINK_SECRET_PURPOSE}
