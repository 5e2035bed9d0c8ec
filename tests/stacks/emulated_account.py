"""An emulated account, the real ``cdk`` command line that deploys to it, and the deployed state machines,
executed there."""

from __future__ import annotations

import asyncio
import importlib
import json
import os
import re
import shutil
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from botocore.exceptions import ClientError

from assistant.process.settings import (
    IngestingSettings,
    LinkSecretSettings,
    ProcessSettings,
    ReceivingSettings,
    RedactingSettings,
    RemovingSettings,
    SchemaSettings,
    ServiceSettings,
)
from assistant.service.function import FunctionEntry
from assistant.tenant.manifests import load_images, write_digest
from template_checks.upgrades import templates_by_stack_name
from tests.stacks.power.state_language import Call as MachineCall
from tests.stacks.power.state_language import CallFailedError, Pause, execute
from tests.stacks.synthesized import ROOT
from tests.stage.aws_calls import Call, read_calls
from tests.stage.lambda_events import Context, sqs_event
from tests.stage.processes import RunningProcess, process
from tests.stage.running_service import events_of
from tests.stage.servers import Authority
from tests.stage.tokens import claims, token

ACCOUNT = "111122223333"
REGION = "us-east-1"
_LIMIT_S = 300
_KEY_ID = "emulated"
"""Access key of commands; the tests' own calls have another one."""
_ANY_VALUE = {"digest": f"sha256:{'d' * 64}", "sha256": "5" * 64}
"""What a deployment asks for that nobody has built or packaged here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EmulatedAccount:
    url: str
    account: str
    home: Path
    certificate: Path | None = None
    """Of the CA that signed the emulator's, where ``url`` is HTTPS."""

    @property
    def environment(self) -> dict[str, str]:
        """Return the variables that make a command call the emulator instead of AWS."""
        return os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "AWS_ENDPOINT_URL": self.url,
            # By a name, so that S3's addresses have the bucket in their path.
            "AWS_ENDPOINT_URL_S3_FOR_CLOUDFORMATION": self.url.replace("127.0.0.1", "localhost"),
            "AWS_ACCESS_KEY_ID": _KEY_ID,
            "AWS_SECRET_ACCESS_KEY": "emulated",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "CDK_HOME": str(self.home),  # the command line remembers there whose account a key is
            **dict.fromkeys(
                ("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS") if self.certificate else (), str(self.certificate)
            ),
        }

    def run(self, *command: str | Path, clone: Path = ROOT) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(part) for part in command],
            cwd=clone,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=_LIMIT_S,
            check=False,
        )

    def cdk(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        return self.run(ROOT / "node_modules" / ".bin" / "cdk", *arguments)

    def bootstrap(self, assembly: Path, *options: str) -> None:
        """Create the CDK's bootstrap roles and bucket."""
        done = self.cdk("bootstrap", f"aws://{self.account}/{REGION}", "--app", assembly, *options)
        assert done.returncode == 0, printed(done)

    def deploy(self, folder: Path) -> None:
        """Deploy the stacks of one stage, as synthesized into ``folder``, for the first time."""
        options = ["--method=direct", "--require-approval=never", "--progress=events"]
        done = self.cdk("deploy", "--app", folder, *options, *asked_for(folder), "**")
        assert done.returncode == 0, printed(done) + log_of(self)

    def client(self, service: str) -> Any:
        return self.client_in(service, REGION)

    def client_in(self, service: str, region: str) -> Any:
        return boto3.client(
            service,  # pyright: ignore[reportCallIssue, reportArgumentType]
            endpoint_url=self.url,
            region_name=region,
            aws_access_key_id="of-the-test",
            aws_secret_access_key="emulated",
            verify=None if self.certificate is None else str(self.certificate),
        )

    def calls(self) -> list[Call]:
        """Return the calls of commands so far, but for those by a role that they assumed."""
        return read_calls(self.home / "calls")

    @contextmanager
    def without_roles(self, named: str = "") -> Iterator[None]:
        """Refuse commands each role that they try to assume, or each whose ARN contains a text."""
        refusal = self.home / "calls.no-roles"
        refusal.write_text(named)
        try:
            yield
        finally:
            refusal.unlink()

    def put_parameter(self, name: str, value: str) -> None:
        self.client("ssm").put_parameter(Name=name, Value=value, Type="String", Overwrite=True)


@contextmanager
def emulated_account(home: Path, *, account: str = ACCOUNT) -> Iterator[EmulatedAccount]:
    """Start the emulator on a free port. It stops at the end of the block, or when this process ends."""
    with (home / "emulator.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.stage.cloudformation_server", account, _KEY_ID, home / "calls"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, (home / "emulator.log").read_text()[-2000:]
        yield EmulatedAccount(url=url, account=account, home=home)
    finally:
        process.kill()
        process.communicate()


def company_tenants(
    folder: Path,
    account: EmulatedAccount,
    *,
    source: Path = ROOT / "tests/tenants",
    with_systems: bool = False,
) -> Path:
    """Write every tenant's file of a folder with a company's values, and create in the account what they
    name. Without ``with_systems`` no internal system is left in them."""
    client = account.client
    for path in sorted(source.glob("*.toml")):
        name = path.stem
        certificate, key = issued(f"assistant.{name}.northshop.net")
        arn = client("acm").import_certificate(Certificate=certificate, PrivateKey=key)["CertificateArn"]
        for role in ("artifact-publisher", "knowledge-owner"):
            client("iam").create_role(RoleName=f"{role}-{name}", AssumeRolePolicyDocument="{}")
        text = re.sub(
            r'certificate_arn = ".*"', f'certificate_arn = "{arn}"', path.read_text(encoding="utf-8")
        )
        if not with_systems:
            text = re.sub(r"\n\[\[?reach[.\w]*\]\]?\n(.+\n)+", "\n", text)
            text = re.sub(r"\n\[\[sources\]\]\n(.+\n)*kind = \"live\"\n(.+\n)*", "\n", text)
        text = text.replace("vpce-svc-0123456789abcdef0", "vpce-svc-0a1b2c3d4e5f60718")
        text = text.replace(ACCOUNT, account.account).replace("example.com", "northshop.net")
        (folder / path.name).write_text(text, encoding="utf-8")
    return folder


def push_images(lock: Path, account: EmulatedAccount) -> None:
    """Write a digest for every image of a lock, once ours are in the account's repositories, which exist."""
    ecr = account.client("ecr")
    for name, image in load_images(lock).images.items():
        digest = f"sha256:{'d' * 64}"
        if image.is_own:
            named = {"repositoryName": image.repository}
            manifest = json.dumps({"mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": []})
            with suppress(ecr.exceptions.ImageAlreadyExistsException):  # another lock has it too
                ecr.put_image(**named, imageTag=image.tag, imageManifest=manifest)
            (there,) = ecr.describe_images(**named, imageIds=[{"imageTag": image.tag}])["imageDetails"]
            digest = there["imageDigest"]
        write_digest(lock, name=name, digest=digest)


def checkout(root: Path, lock: Path, *others: str) -> Path:
    """Make a checkout with that lock, and without the entries of ``others``. Python looks for modules beside
    the file that a link leads to, so the application is a copy."""
    for entry in ROOT.iterdir():
        if entry.name not in ("app.py", "build", lock.name, *others):
            (root / entry.name).symlink_to(entry)
    shutil.copy(ROOT / "app.py", root)
    if lock.parent != root:
        shutil.copy(lock, root)
    (root / "build").mkdir()
    (root / "build" / "functions").symlink_to(ROOT / "build" / "functions")
    return root


def issued(host: str) -> tuple[bytes, bytes]:
    """Return a certificate for a host name, and its key, as PEM."""
    pem = Authority.make().issue(host)
    key = re.search(
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?-----END [A-Z ]*PRIVATE KEY-----\n", pem, re.DOTALL
    )
    certificate = re.search(r"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----\n", pem, re.DOTALL)
    assert key is not None
    assert certificate is not None
    return certificate[0].encode(), key[0].encode()


def asked_for(stage: Path) -> Sequence[str]:
    """Return ``--parameters`` for every template parameter of the stage that has no value here."""
    given: list[str] = []
    for stack, template in templates_by_stack_name(stage).items():
        for name, parameter in template.get("Parameters", {}).items():
            if "Default" not in parameter:
                kind = re.sub(r".*(digest|sha256)$", r"\1", name.lower())
                given += ["--parameters", f"{stack}:{name}={_ANY_VALUE.get(kind, 'done')}"]
    return given


def resources_of(account: EmulatedAccount, stack: str, kind: str) -> list[str]:
    """Return the physical ids of a stack's resources of one type."""
    found = account.client("cloudformation").describe_stack_resources(StackName=stack)["StackResources"]
    return [each["PhysicalResourceId"] for each in found if each.get("ResourceType") == kind]


def log_of(account: EmulatedAccount) -> str:
    lines = (account.home / "emulator.log").read_text().splitlines()
    return "\n".join(line for line in lines if "HTTP/1" not in line)[-3000:]


def printed(done: subprocess.CompletedProcess[str]) -> str:
    return json.dumps({"stdout": done.stdout[-3000:], "stderr": done.stderr[-3000:]}, indent=1)


def switched(account: EmulatedAccount, kind: str, *, tenant: str) -> list[str]:
    """Execute the deployed machine and return the actions that it called. Raises ExecutionFailedError."""
    (arn,) = [
        each
        for each in resources_of(account, f"assistant-{tenant}-Models", "AWS::StepFunctions::StateMachine")
        if kind in each
    ]
    found = account.client("stepfunctions").describe_state_machine(stateMachineArn=arn)
    steps = execute(json.loads(found["definition"]), {})
    actions: list[str] = []
    result: Any = None
    failure: CallFailedError | None = None
    while True:
        try:
            step = steps.send(result) if failure is None else steps.throw(failure)
        except StopIteration:
            return actions
        result, failure = None, None
        if isinstance(step, Pause):
            continue
        actions.append(step.action)
        try:
            result = made(account, step)
        except CallFailedError as error:
            failure = error


def made(account: EmulatedAccount, call: MachineCall) -> Mapping[str, Any]:
    """Make a state machine's call as Step Functions does; return its result by Step Functions' names."""
    service, _, action = call.action.partition(":")
    client = account.client(service)
    method = getattr(client, "".join(f"_{c.lower()}" if c.isupper() else c for c in action))
    given = dict(call.parameters)
    if service == "lambda":
        given["UUID"] = given.pop("Uuid")
    try:
        return method(**given)
    except ClientError as error:
        told = error.response["Error"]
        name = f"{service.capitalize()}.{told['Code'].removesuffix('Exception')}Exception"
        raise CallFailedError(name, told["Message"]) from None


FUNCTIONS: Mapping[str, type[ProcessSettings]] = {
    "apply_search_schema": SchemaSettings,
    "create_link_secret": LinkSecretSettings,
    "receive_documents": ReceivingSettings,
    "ingest_documents": IngestingSettings,
    "withdraw_documents": RemovingSettings,
    "redact_capture": RedactingSettings,
}


@dataclass
class EmulatedTenant:
    """The tenant's functions and task, with the addresses of this machine."""

    account: EmulatedAccount
    name: str
    differs: Mapping[str, str]
    """Settings that are not those of the deployment."""
    monkeypatch: pytest.MonkeyPatch
    folder: Path
    entries: list[FunctionEntry[Any, Any]] = field(default_factory=list[FunctionEntry[Any, Any]])

    async def call(
        self,
        name: str,
        event: Mapping[str, Any],
        settings: type[ProcessSettings] | None = None,
        /,
        **differs: str,
    ) -> Any:
        """Run a function's handler, with the environment that its deployment gave it. ``settings``: of an
        option's function."""
        settings = settings or FUNCTIONS[name]
        function = self._deployed(settings)
        here = {key: value for key, value in self._here(differs).items() if key in settings.model_fields}
        given = function["Environment"]["Variables"] | {
            settings.variable(key): value for key, value in here.items()
        }
        for variable, value in given.items():
            self.monkeypatch.setenv(variable, value)
        entry: FunctionEntry[Any, Any] = importlib.import_module(f"lambdas.{name}").handle
        self.entries.append(entry)
        return await asyncio.to_thread(entry, event, Context())

    async def close(self) -> None:
        for entry in self.entries:
            await asyncio.to_thread(entry.close)

    def _here(self, differs: Mapping[str, str]) -> dict[str, str]:
        folders = {"tenants_dir": "tenants", "state_dir": "state", "model_artifacts_dir": "models"}
        # The emulator runs no function: a child parses. tests/integration/aws has the parser itself.
        own = {"parser_function": ""} | {key: str(self.folder / part) for key, part in folders.items()}
        return {**self.differs, **differs, **own}

    def _deployed(self, settings: type[ProcessSettings]) -> dict[str, Any]:
        """Return the deployed function with an environment of this class; two share that of removing."""
        prefix, functions = settings.variable(""), f"assistant-{self.name}-"
        return next(
            each
            for each in self.account.client("lambda").list_functions()["Functions"]
            if each["FunctionName"].startswith(functions)
            and any(name.startswith(prefix) for name in each.get("Environment", {}).get("Variables", {}))
        )

    def task_environment(self) -> dict[str, str]:
        """The environment of the service's container, with what differs here."""
        (task,) = resources_of(
            self.account, f"assistant-{self.name}-Orchestrator", "AWS::ECS::TaskDefinition"
        )
        found = self.account.client("ecs").describe_task_definition(taskDefinition=task)
        (container,) = [
            each for each in found["taskDefinition"]["containerDefinitions"] if each["name"] == "Service"
        ]
        given = {pair["name"]: pair["value"] for pair in container["environment"]}
        given.pop(ServiceSettings.variable("otlp_endpoint"), None)
        here = self._here({"host": "127.0.0.1", "port": "0", "operations_port": "0"})
        return given | {ServiceSettings.variable(key): value for key, value in here.items()}

    @asynccontextmanager
    async def service(self, **more: str) -> AsyncGenerator[RunningProcess]:
        """Start the service with its task's environment and ``more`` variables."""
        own = {"PYTHONPATH": str(ROOT), "AWS_ACCESS_KEY_ID": "emulated", "AWS_SECRET_ACCESS_KEY": "emulated"}
        async with process("service", self.task_environment() | own | more) as service:
            yield service

    def token(self, *roles: str) -> str:
        """Return a token of the tenant's issuer, whose key is that of the tests."""
        issuer = self.task_environment()[ServiceSettings.variable("issuer")]
        return token(
            claims(datetime.now(UTC), iss=issuer, aud="assistant", tenant=self.name, roles=list(roles))
        )

    async def asked(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Start the service, ask once, and return the answer's events by name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # the task's certificate is made at its start
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        headers = {"authorization": f"Bearer {self.token('agent')}", "accept": "text/event-stream"}
        async with (
            self.service() as service,
            httpx.AsyncClient(
                base_url=service.url, headers=headers, verify=context, trust_env=False, timeout=60
            ) as agent,
        ):
            return dict(events_of((await agent.post("/v1/answers", json=question)).text))

    def queue(self, name: str) -> str:
        """The URL of a queue, as the environment of its function has it."""
        function = self._deployed(IngestingSettings)
        return str(function["Environment"]["Variables"][IngestingSettings.variable(name)])

    def messages(self, name: str, *, wait_s: int = 0) -> dict[str, Any]:
        """Take what is in a queue, as the event that Lambda would make of it; wait as long for the first."""
        sqs, url = self.account.client("sqs"), self.queue(name)
        found = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, WaitTimeSeconds=wait_s).get(
            "Messages", []
        )
        for each in found:
            sqs.delete_message(QueueUrl=url, ReceiptHandle=each["ReceiptHandle"])
        return sqs_event(url.rpartition("/")[2], [each["Body"] for each in found])

    def bucket(self, name: str) -> str:
        buckets = resources_of(self.account, f"assistant-{self.name}-Data", "AWS::S3::Bucket")
        return next(bucket for bucket in buckets if name in bucket)
