"""What a laptop serves, the settings of each part of its one process, and how commands share the site.

A tenant's answers are written by the LLM that was chosen for it, where that one may. The packaged LLM may
not, so it is never loaded.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from assistant.process.private_files import FILE_MODE, keep_private, make_private_file, replace_private
from assistant.process.settings import LocalSettings, ServiceSettings, WorkerSettings
from assistant.tenant.added_models import PACKAGED, TenantModels
from assistant.tenant.deployment import ReachEntry
from assistant.tenant.tenant import TenantConfig

HOST = "127.0.0.1"
ORDER_SYSTEM = "orders"
"""The sample order system of a pharmacy."""
_SAMPLE_SYSTEMS = (ORDER_SYSTEM, "stores")
"""Systems of ``tools/systems.py`` in a checkout. Each stands for the system that its connector file
``<name>.toml`` describes; the shop's lets every agent read every order."""
_IN_STATE = "state:"
_DRAIN_S = 5.0
"""How long a local service lets answers finish after Ctrl-C."""


class Addresses(BaseModel):
    """Base URLs of the process's listeners, without a trailing slash; empty while it starts or stops."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: str = ""
    issuer: str = ""
    systems: dict[str, str] = Field(default_factory=dict[str, str])
    """Sample system = its URL."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is served, read from the tenants' files and the choices of models."""

    tenants_dir: Path
    state_dir: Path
    tenants: Mapping[str, TenantConfig]
    settings: LocalSettings
    models: Mapping[str, TenantModels] = field(default_factory=dict[str, TenantModels])
    """Tenant = the added models that it uses; ``tenants`` already have them applied."""
    checkout: Path | None = None
    """Folder of the source, where its sample systems are; None for an installed package."""

    @property
    def models_dir(self) -> Path:
        return models_dir(self.state_dir)

    @property
    def sample_systems(self) -> dict[str, list[tuple[str, ReachEntry]]]:
        """System = the tenants' ``[[reach]]`` entries that it stands for, each with its tenant's name."""
        systems: dict[str, list[tuple[str, ReachEntry]]] = {}
        for tenant in self.tenants.values():
            for entry in tenant.reach:
                if name := self._sample_of(tenant.name, entry):
                    systems.setdefault(name, []).append((tenant.name, entry))
        return systems

    def _sample_of(self, tenant: str, entry: ReachEntry) -> str | None:
        given = self.settings.reach_addresses.keys() & {entry.name, f"{tenant}/{entry.name}"}
        if self.checkout is None or not entry.is_live or given:
            return None
        file = (self.tenants_dir / entry.files[0]).resolve()
        is_ours = file.is_relative_to(self.checkout.resolve())
        return file.stem if is_ours and file.stem in _SAMPLE_SYSTEMS else None

    def system_tokens(self, name: str) -> list[Path]:
        """Return the files of the tokens that a sample system accepts; the service makes each when needed."""
        state = self.state_dir.resolve()
        return [
            state / "secrets" / tenant / entry.secret_name.removeprefix(_IN_STATE)
            for tenant, entry in self.sample_systems[name]
            if entry.secret_name.startswith(_IN_STATE)
        ]

    def worker_settings(self) -> WorkerSettings:
        """Return the worker's settings; a command that writes an index beside it uses the same."""
        return WorkerSettings.read(
            opensearch_applies_schema=True, **self._folders(), **self._models_and_index()
        )

    def service_settings(self, addresses: Addresses) -> ServiceSettings:
        """Return the service's settings; a command that answers by itself uses the same."""
        samples = {
            f"{tenant}/{entry.name}": addresses.systems[name]
            for name, entries in self.sample_systems.items()
            for tenant, entry in entries
        }
        return ServiceSettings.read(
            issuer=addresses.issuer,
            jwks_url=f"{addresses.issuer}/jwks.json",
            care_jwks_url=f"{addresses.issuer}/care/jwks.json",
            reach_addresses={**samples, **self.settings.reach_addresses},
            # a sample system may hold the panel in its pages
            frame_ancestors=tuple(addresses.systems.values()),
            cors_origins=tuple(addresses.systems.values()),
            drain_timeout_s=_DRAIN_S,
            captures=self.settings.capture,
            quoted_tenants=tuple(
                name
                for name, tenant in self.tenants.items()
                if not self.models.get(name, PACKAGED).writes(tenant)
            ),
            **self._folders(),
            **self._models_and_index(),
        )

    def _folders(self) -> dict[str, Any]:
        return {
            "tenants_dir": self.tenants_dir.resolve(),
            "only_tenants": tuple(self.tenants),
            "state_dir": self.state_dir.resolve(),
        }

    def _models_and_index(self) -> dict[str, Any]:
        """Return the settings of models and index; the embedded index needs none."""
        models = {
            "model_artifacts_dir": self.models_dir,
            "models": "embedded",
            "local_models": {name: models.served for name, models in self.models.items()},
        }
        if self.settings.search == "embedded":
            return models
        url = self.settings.opensearch_url
        return models | {"search": "opensearch", "opensearch_url": url, "opensearch_auth": "none"}

    def options(self) -> dict[str, str]:
        """Return what this command was told, beside the files: what serves already cannot follow it."""
        chosen = self.settings.model_dump(mode="json", include={"search", "opensearch_url", "capture"})
        folder = {"tenants": str(self.tenants_dir.resolve())}
        return (
            folder
            | {name: str(value) for name, value in sorted(chosen.items())}
            | self.settings.reach_addresses
        )

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what is read at a start: another one asks for a new start.

        A model beside a live index is left out: it is read when the index is.
        """
        folder = self.tenants_dir.resolve()
        named = (
            folder / file
            for tenant in self.tenants.values()
            for entry in tenant.reach
            for file in entry.files
        )
        digest = hashlib.sha256()
        for path in (*(folder / f"{name}.toml" for name in self.tenants), *dict.fromkeys(named)):
            content = path.read_bytes() if path.exists() else b""
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        for name, models in sorted(self.models.items()):
            digest.update(f"{name}\0{models.served.model_dump_json()}\0".encode())
        return digest.hexdigest()


def models_dir(state_dir: Path) -> Path:
    """Return the folder of added models and of what is derived from weights."""
    return state_dir.resolve() / "models"


# --- how commands share the site ------------------------------------------------------------------------
# Who holds ``site.lock`` serves, and writes ``site.json``. Who only uses the site holds a shared lock on
# ``site.users``, for which the one that serves waits before it stops. The operating system frees the locks of
# a command that was killed, so that a file without its lock says nothing.
_POLL_S = 0.05


class Address(Addresses):
    """Content of ``site.json``: what serves, and where."""

    command: str
    pid: int
    folder: str
    """In which the command was started."""
    started_at: float
    """Seconds since the epoch."""
    options: dict[str, str]
    digest: str
    """As ``Layout`` gives them."""
    stays: bool
    """Whether it serves until a signal, and follows changed files."""

    @property
    def who(self) -> str:
        return f"{self.command} (process {self.pid}, in {self.folder})"


@dataclass(slots=True)
class SharedSite:
    """The site of one state folder, as a command sees it."""

    folder: Path
    _lock: FileLock = field(init=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.folder / "site.lock", mode=FILE_MODE)

    @property
    def _file(self) -> Path:
        return self.folder / "site.json"

    def take(self) -> bool:
        """Become the one that serves; False where another command does."""
        keep_private(self.folder)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        self._file.unlink(missing_ok=True)
        return True

    def publish(self, address: Address) -> None:
        """Tell other commands where it serves."""
        replace_private(self._file, address.model_dump_json(indent=1).encode())

    def release(self) -> None:
        """Serve no longer."""
        self._file.unlink(missing_ok=True)
        self._lock.release()

    def read(self) -> Address | None:
        """Return where another command serves; None where none does, or not yet, or no longer."""
        address = self.holder()
        return address if address is not None and address.service else None

    def holder(self) -> Address | None:
        """Return the command that serves, starts to or is ending; None without one."""
        try:
            address = Address.model_validate_json(self._file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        # The lock alone is no proof: another command may just be looking whether it is free.
        return address if self.is_held() and psutil.pid_exists(address.pid) else None

    def serves(self, address: Address) -> bool:
        """Return whether that process still serves."""
        return (now := self.holder()) is not None and now.pid == address.pid

    @contextmanager
    def using(self, address: Address) -> Generator[bool]:
        """Keep the site from stopping inside the block; False where it has begun to stop."""
        with self._users(fcntl.LOCK_SH):
            yield self.read() == address

    def is_used(self) -> bool:
        """Return whether another command uses the site now."""
        try:
            with self._users(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True

    def await_users(self, on_wait: Callable[[], None]) -> None:
        """Return when no other command uses the site; ``on_wait`` is called once where one does."""
        if not self.is_used():
            return
        on_wait()
        with self._users(fcntl.LOCK_EX):
            return

    def stop(self, *, timeout_s: float) -> Address | None:
        """End the process that serves, by force after ``timeout_s``; return what it was, None without one."""
        if (address := self.holder()) is None:
            return None
        until_s = time.monotonic() + timeout_s
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(address.pid)
            process.terminate()
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > until_s:
                    process.kill()
                time.sleep(_POLL_S)
        return address

    def is_held(self) -> bool:
        """Return whether a command serves, or just looks whether another one does."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return True
        self._lock.release()
        return False

    @contextmanager
    def _users(self, kind: int) -> Generator[None]:
        path = self.folder / "site.users"
        make_private_file(path)
        with path.open("rb") as file:
            fcntl.flock(file, kind)
            yield
