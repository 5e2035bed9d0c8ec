"""What a laptop serves (``Layout``), the settings of each part of its one process, and how commands share the
site.

The site is that process: the service, the issuer, the worker and sample systems, on listeners of this
machine. One command starts it; others find it by files in the state folder (``SharedSite``).

An LLM that was added for a tenant writes its answers, if its manifest allows that. The packaged LLM may not
write any, so it is never loaded: without another one answers are only quoted.
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
"""Systems of ``tools/systems.py`` in a checkout. Each takes the place of the system that the connector file
``<name>.toml`` describes; the shop's lets every agent read every order."""
SAMPLE_PUBLISHER, ORIGINALS = "https://procedures.pharmacy.example/", "/procedures/"
"""Begin of the addresses that the pharmacy's sample documents name, and the path at which the order system
serves them."""
_STATE_PREFIX = "state:"
_DRAIN_S = 5.0
"""How long a local service lets answers finish after Ctrl-C."""


class Addresses(BaseModel):
    """Base URLs of the site's listeners, "http://127.0.0.1:8700", without a trailing slash; empty while it
    starts or stops."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: str = ""
    issuer: str = ""
    systems: dict[str, str] = Field(default_factory=dict[str, str])
    """URL by sample system."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What is served, as read from the tenants' files and the choices of models. ``Site.follow`` compares two
    by ``digest``."""

    tenants_dir: Path
    state_dir: Path
    tenants: Mapping[str, TenantConfig]
    settings: LocalSettings
    models: Mapping[str, TenantModels] = field(default_factory=dict[str, TenantModels])
    """Added models by the tenant that uses them; ``tenants`` already have them applied."""
    checkout: Path | None = None
    """Folder of the source, where its sample systems are; None for an installed package."""

    @property
    def models_dir(self) -> Path:
        return models_dir(self.state_dir)

    @property
    def sample_systems(self) -> dict[str, list[tuple[str, ReachEntry]]]:
        """For each sample system the ``[[reach]]`` entries whose place it takes, each with its tenant's
        name."""
        systems: dict[str, list[tuple[str, ReachEntry]]] = {}
        for tenant in self.tenants.values():
            for entry in tenant.reach:
                if name := self._sample_of(tenant.name, entry):
                    systems.setdefault(name, []).append((tenant.name, entry))
        return systems

    def _sample_of(self, tenant: str, entry: ReachEntry) -> str | None:
        """Return the sample system that takes an entry's place; None without a checkout, for an entry whose
        address is set, and for connector files that are not the checkout's."""
        has_address = self.settings.reach_addresses.keys() & {entry.name, f"{tenant}/{entry.name}"}
        if self.checkout is None or not entry.is_live or has_address:
            return None
        file = (self.tenants_dir / entry.files[0]).resolve()
        is_ours = file.is_relative_to(self.checkout.resolve())
        return file.stem if is_ours and file.stem in _SAMPLE_SYSTEMS else None

    def system_tokens(self, name: str) -> list[Path]:
        """Return the files with the tokens that a sample system accepts. The service makes each when it is
        first needed."""
        state = self.state_dir.resolve()
        return [
            state / "secrets" / tenant / entry.secret_name.removeprefix(_STATE_PREFIX)
            for tenant, entry in self.sample_systems[name]
            if entry.secret_name.startswith(_STATE_PREFIX)
        ]

    def worker_settings(self) -> WorkerSettings:
        """Return the worker's settings; a command that writes an index beside it uses the same."""
        return WorkerSettings.read(**self._shared())

    def service_settings(self, addresses: Addresses) -> ServiceSettings:
        """Return the service's settings; a command that answers by itself uses the same."""
        samples = {
            f"{tenant}/{entry.name}": addresses.systems[name]
            for name, entries in self.sample_systems.items()
            for tenant, entry in entries
        }
        orders = addresses.systems.get(ORDER_SYSTEM)
        return ServiceSettings.read(
            issuer=addresses.issuer,
            jwks_url=f"{addresses.issuer}/jwks.json",
            care_jwks_url=f"{addresses.issuer}/care/jwks.json",
            reach_addresses={**samples, **self.settings.reach_addresses},
            # a sample system may hold the panel in its pages
            frame_ancestors=tuple(addresses.systems.values()),
            cors_origins=tuple(addresses.systems.values()),
            originals={SAMPLE_PUBLISHER: f"{orders}{ORIGINALS}"} if orders else {},
            drain_timeout_s=_DRAIN_S,
            quoted_tenants=tuple(
                name
                for name, tenant in self.tenants.items()
                if not self.models.get(name, PACKAGED).writes(tenant)
            ),
            **self._shared(),
        )

    def _shared(self) -> dict[str, Any]:
        """Return the settings that service and worker share."""
        return {
            "tenants_dir": self.tenants_dir.resolve(),
            "only_tenants": tuple(self.tenants),
            "state_dir": self.state_dir.resolve(),
            "model_artifacts_dir": self.models_dir,
            "models": "embedded",
            "local_models": dict(self.models),
        }

    def options(self) -> dict[str, str]:
        """Return the settings of this command, as text, for other commands to compare: a site that serves
        with others must be started anew. ``digest`` has the contents of files."""
        return {"tenants": str(self.tenants_dir.resolve()), **self.settings.reach_addresses}

    def times(self) -> dict[Path, tuple[int, int]]:
        """Return when each file changed that a start may read (ns), and its size in bytes: those of the
        folder of tenant files, those that a tenant file names elsewhere, and the choices of models."""
        folder = self.tenants_dir.resolve()
        named = (folder / file for tenant in self.tenants.values() for e in tenant.reach for file in e.files)
        paths = {*folder.rglob("*"), *named, *self.models_dir.glob("*"), *self.models_dir.glob("*/*.toml")}
        times: dict[Path, tuple[int, int]] = {}
        for path in paths:
            with suppress(FileNotFoundError):  # deleted meanwhile: it is missing here, as it should
                found = path.stat()
                times[path] = found.st_mtime_ns, found.st_size
        return times

    def digest(self) -> str:
        """Return the SHA-256 (hex) of what a start reads: tenant files, connector files, choices of models.
        If it changes, the site must be started anew.
        """
        folder = self.tenants_dir.resolve()
        connector_files = (
            folder / file
            for tenant in self.tenants.values()
            for entry in tenant.reach
            for file in entry.files
        )
        digest = hashlib.sha256()
        for path in (*(folder / f"{name}.toml" for name in self.tenants), *dict.fromkeys(connector_files)):
            content = path.read_bytes() if path.exists() else b""
            digest.update(f"{path}\0{len(content)}\0".encode() + content)
        for name, models in sorted(self.models.items()):
            digest.update(f"{name}\0{models.model_dump_json()}\0".encode())
        return digest.hexdigest()


def models_dir(state_dir: Path) -> Path:
    """Return the folder of added models and of what is derived from weights."""
    return state_dir.resolve() / "models"


# --- how commands share the site ------------------------------------------------------------------------
# The command that holds ``site.lock`` serves, and writes ``site.json``. A command that only uses the site
# holds a shared lock on ``site.users``; the serving command waits for all of them before it stops. The
# operating system frees the locks of a killed command, so a ``site.json`` whose ``site.lock`` is free is out
# of date.
_POLL_PAUSE_S = 0.05


class Address(Addresses):
    """Content of ``site.json``: which command serves, and where."""

    command: str
    pid: int
    folder: str
    """Working folder of the command."""
    started_at: float
    """Seconds since the epoch."""
    options: dict[str, str]
    """``Layout.options``."""
    digest: str
    """``Layout.digest``."""
    stays: bool
    """Whether it serves until a signal, and follows changed files."""

    @property
    def who(self) -> str:
        return f"{self.command} (process {self.pid}, in {self.folder})"


@dataclass(slots=True)
class SharedSite:
    """The site of one state folder, as a command sees it.

    The serving command calls ``take``, ``publish``, before its end ``await_users``, and ``release``. Another
    one calls ``read``, then works inside ``using(address)`` if that yields True.
    """

    folder: Path
    _lock: FileLock = field(init=False)

    def __post_init__(self) -> None:
        self._lock = FileLock(self.folder / "site.lock", mode=FILE_MODE)

    @property
    def _file(self) -> Path:
        return self.folder / "site.json"

    def take(self) -> bool:
        """Become the serving command; return False if another command is."""
        keep_private(self.folder)
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return False
        self._file.unlink(missing_ok=True)
        return True

    def publish(self, address: Address) -> None:
        """Tell other commands where this one serves; an address without URLs says that it starts or stops."""
        replace_private(self._file, address.model_dump_json(indent=1).encode())

    def release(self) -> None:
        """Stop being the serving command."""
        self._file.unlink(missing_ok=True)
        self._lock.release()

    def read(self) -> Address | None:
        """Return where a command serves; None if none does, or it still starts or already stops."""
        address = self.holder()
        return address if address is not None and address.service else None

    def holder(self) -> Address | None:
        """Return the command that serves, starts or stops; None without one."""
        try:
            address = Address.model_validate_json(self._file.read_bytes())
        except (FileNotFoundError, ValidationError):
            return None
        # The lock alone proves nothing: another command holds it for a moment in ``is_held``.
        return address if self.is_held() and psutil.pid_exists(address.pid) else None

    def serves(self, address: Address) -> bool:
        """Return whether the process of this address still serves, starts or stops."""
        return (now := self.holder()) is not None and now.pid == address.pid

    @contextmanager
    def using(self, address: Address) -> Generator[bool]:
        """Keep the site from stopping inside the block. Yield False if it is no longer at this address."""
        with self._users_lock(fcntl.LOCK_SH):
            yield self.read() == address

    def is_used(self) -> bool:
        """Return whether another command uses the site now."""
        try:
            with self._users_lock(fcntl.LOCK_EX | fcntl.LOCK_NB):
                return False
        except BlockingIOError:
            return True

    def await_users(self, on_wait: Callable[[], None]) -> None:
        """Wait until no other command uses the site; call ``on_wait`` once if one does."""
        if not self.is_used():
            return
        on_wait()
        with self._users_lock(fcntl.LOCK_EX):
            return

    def stop(self, *, timeout_s: float) -> Address | None:
        """End the serving process, by force after ``timeout_s``; return its address, None without one."""
        if (address := self.holder()) is None:
            return None
        kill_at_s = time.monotonic() + timeout_s
        with suppress(psutil.NoSuchProcess):
            process = psutil.Process(address.pid)
            process.terminate()
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                if time.monotonic() > kill_at_s:
                    process.kill()
                time.sleep(_POLL_PAUSE_S)
        return address

    def is_held(self) -> bool:
        """Return whether ``site.lock`` is held: a command serves, or another one just calls this too."""
        if self._lock.is_locked:
            return True
        try:
            self._lock.acquire(blocking=False)
        except Timeout:
            return True
        self._lock.release()
        return False

    @contextmanager
    def _users_lock(self, kind: int) -> Generator[None]:
        """Hold ``site.users``. ``kind``: LOCK_SH to use the site, LOCK_EX to be alone, with LOCK_NB without
        waiting.

        Raises BlockingIOError with LOCK_NB.
        """
        path = self.folder / "site.users"
        make_private_file(path)
        with path.open("rb") as file:
            fcntl.flock(file, kind)
            yield
