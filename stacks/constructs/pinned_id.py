"""Logical ids of stateful resources, said once: moving a construct must never replace what it stands for."""

from __future__ import annotations

import aws_cdk as cdk
from constructs import Construct


def pin(construct: Construct, logical_id: str) -> None:
    """Give the one resource of a construct (or the resource itself) its logical id."""
    resource = construct if isinstance(construct, cdk.CfnElement) else construct.node.default_child
    if not isinstance(resource, cdk.CfnElement):
        raise TypeError(f"{construct.node.path} is no construct of one resource; pin the resource itself.")
    resource.override_logical_id(logical_id)
