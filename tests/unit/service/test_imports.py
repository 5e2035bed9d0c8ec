"""What the service loads before it is ready: no engine, and nothing that only the worker needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ("tantivy", "numpy", "onnxruntime", "onnx", "xllamacpp", "boto3", "tokenizers", "playwright", "scipy")
OF_THE_WORKER = ("turbohtml", "markdown_it", "yaml", "semantic_text_splitter", "charset_normalizer")
OF_OTHER_FORMATS = ("pypdfium2", "pptx", "openpyxl", "lxml", "PIL")
OF_THE_COMMAND_LINE = ("typer", "httpx", "psutil", "filelock")


@pytest.fixture(scope="module")
def loaded() -> frozenset[str]:
    # rich stands beside structlog on a developer's machine, and brings markdown_it: without it as in the
    # service's own image
    code = (
        "import sys; sys.modules['rich'] = None; import assistant.service.__main__;"
        "print(*sys.modules, sep=chr(10))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    return frozenset(done.stdout.split())


@pytest.mark.parametrize("package", HEAVY + OF_THE_WORKER + OF_OTHER_FORMATS + OF_THE_COMMAND_LINE)
def test_the_service_starts_without(package: str, loaded: frozenset[str]) -> None:
    assert package not in loaded
