"""What the service and its health check load: no engine, and nothing that only the worker needs."""

from __future__ import annotations

import subprocess
import sys

import pytest

from assistant.process.settings import ServiceSettings
from assistant.service import alive

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


def test_its_names_are_those_of_the_settings() -> None:
    assert ServiceSettings.variable("port") == alive.PORT_VARIABLE
    assert ServiceSettings.variable("tls") == alive.TLS_VARIABLE


def test_nothing_of_the_service_is_imported() -> None:
    code = "import sys, assistant.service.alive; print(*sorted(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True
    )
    ours = {name for name in done.stdout.split() if name.partition(".")[0] in ("assistant", "pydantic")}
    assert ours == {"assistant", "assistant.service", "assistant.service.alive"}


@pytest.mark.loopback
@pytest.mark.parametrize("tls", ["off", "self-signed"])
def test_a_service_that_does_not_answer_is_not_alive(monkeypatch: pytest.MonkeyPatch, tls: str) -> None:
    monkeypatch.setenv(alive.PORT_VARIABLE, "9")
    monkeypatch.setenv(alive.TLS_VARIABLE, tls)
    with pytest.raises(SystemExit, match="does not answer on port 9"):
        alive.main()
