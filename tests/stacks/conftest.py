"""Shared by the tests of stacks: Node from this environment, and synthesis without validation.

``make synth`` runs the validators. ``tests.stacks.values`` has the values that a stack is built from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.synthesized import assembly, company_assembly

__all__ = ["assembly", "company_assembly"]


@pytest.fixture(scope="session", autouse=True)
def _node_of_this_environment() -> Iterator[None]:
    """jsii starts ``node`` by name; it is installed beside this Python."""
    before = dict(os.environ)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before['PATH']}"
    os.environ["CDK_VALIDATION"] = "false"
    yield
    os.environ.clear()
    os.environ.update(before)
