"""The container's health check names the same variables as the service, and says no when nobody answers."""

from __future__ import annotations

import subprocess
import sys

import pytest

from assistant.process.settings import ServiceSettings
from assistant.service import alive


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
