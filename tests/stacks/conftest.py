"""What the tests of stacks share: Node from this environment, and no validation in the inner loop.

Findings of the validators are the matter of ``make synth``; ``tests.stacks.values`` has what a stack is
built from.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.stacks.synthesized import account_assembly, assembly, care_assembly

__all__ = ["account_assembly", "assembly", "care_assembly"]


@pytest.fixture(scope="session", autouse=True)
def _node_of_this_environment() -> Iterator[None]:
    """jsii starts ``node`` by name; it is installed beside this Python."""
    before = dict(os.environ)
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{before['PATH']}"
    os.environ["CDK_VALIDATION"] = "false"
    yield
    os.environ.clear()
    os.environ.update(before)
