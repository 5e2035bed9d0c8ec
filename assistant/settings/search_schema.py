"""What deployment and adapters agree on about the search schema."""

from __future__ import annotations

from typing import Literal

SCHEMA_VERSION = 2
"""Grows with a change of mapping, analyzer or settings: such an index is a new version and is filled anew."""
SEARCH_SCHEMA_RESOURCE = "Custom::SearchSchema"
"""Of CloudFormation: index, pipeline, alias, audit. The property ``Stamp`` is what a change of it applies."""
SEARCH_ACCESS_RESOURCE = "Custom::SearchAccess"
"""Of CloudFormation: lets ``RoleArns`` into the tenant's index, to ``Access``, an ``IndexAccess``."""
LINK_SECRET_RESOURCE = "Custom::LinkSecret"  # noqa: S105 - a type of resource

IndexAccess = Literal["read", "write"]
"""``read``: search and see what the index was built with. ``write``: rows and their removal too."""
