"""``assistant models train`` and ``merge``: starts a training job in a tenant's account, and joins an adapter
with its base into weights that this machine serves.

A job is what the learning stack's runbook says: role, network, keys, output, bounds. What cannot work is
refused by name before SageMaker is asked (docs/decisions/0082-training-jobs.md).
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from assistant.cli.terminal import GlobalOptions, Tenant, Terminal
from assistant.domain.errors import ConfigurationError, DeploymentError
from assistant.settings.model_artifacts import instance_named, load_embedding_manifest, load_llm_manifest
from assistant.settings.tenant import load_tenant

if TYPE_CHECKING:
    from assistant.cli.account import AwsAccount

Task = Literal["answers", "preference", "embedding", "domain"]
_FREE = frozenset({"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"})
"""Licences that let a company change a model and serve it, without further terms."""
_NEURON_CODE = ("contract.py", "train.py", "neuron/train_neuron.py")
_NOT_ON_NEURON = frozenset[Task]({"preference", "embedding"})
_MANIFESTS = {"llm": load_llm_manifest, "embedding": load_embedding_manifest}
_STEPS = {False: "TrainOnVolume", True: "TrainOnLocalDisk"}
"""Of the runbook: whether the instance has a local disk, which takes no key."""
_ENDED = frozenset({"Completed", "Failed", "Stopped"})
POLL_S = 30.0
Out = Annotated[Path, Option(metavar="FOLDER", help="A new folder.")]
Adapter = Annotated[Path | None, Option(metavar="FOLDER", help="Of a training job. Default: none.")]
Types = Annotated[Literal["f32", "f16", "q8_0"], Option("--as", help="Of the GGUF's matrices.")]
JobName = Annotated[str, Argument(metavar="JOB", help="Its name, new each time.")]
Set = Annotated[str, Option("--set", metavar="FOLDER/", help="Below sets/ of the training bucket.")]
Base = Annotated[str, Option(metavar="ARTIFACT", help="Folder of model_artifacts with the weights.")]
Image = Annotated[str, Option(metavar="URI", help="In the own registry, by digest.")]
With = Annotated[
    list[str] | None, Option("--with", metavar="NAME=VALUE", help="A hyperparameter. Repeatable.")
]
Spot = Annotated[bool, Option("--spot", help="Cheaper; goes on after an interruption.")]
CLEARED = "The base's licence: a person has read that it allows a changed model in service."
Cleared = Annotated[str | None, Option("--licence-cleared", metavar="NAME", help=CLEARED)]


def merge(
    base: Annotated[Path, Argument(metavar="BASE", help="GGUF file of the Llama family.")],
    out: Out,
    adapter: Adapter = None,
    types: Types = "f16",
) -> None:
    """Write a base model, with an adapter's changes, as a GGUF to serve and a folder to train on."""
    from assistant.model_server.llama_weights import FOLDER, GGUF, write_weights

    terminal = Terminal()
    with terminal.waiting("turning the weights"):
        write_weights(base, adapter, out, types=types)
    terminal.show(f"Wrote {out / GGUF} and {out / FOLDER}.")


def train(
    context: typer.Context,
    tenant: Tenant,
    name: JobName,
    task: Annotated[Task, Option(help="What to train.")],
    training_set: Set,
    base: Base,
    instance: Annotated[str, Option(metavar="TYPE", help="ml.g5.2xlarge, ml.trn1.2xlarge, …")],
    image: Image,
    given: With = None,
    spot: Spot = False,
    cleared: Cleared = None,
    wait: Annotated[bool, Option("--wait", help="Until the job ends.")] = False,
) -> None:
    """Start a training job of a tenant in its account, inside the learning stack's bounds."""
    from assistant.cli.account import AwsAccount, place_of

    tenants, terminal = GlobalOptions.of(context).tenants_dir, Terminal(steps=True)
    refuse_impossible(task, instance, spot=spot)
    place = place_of(load_tenant(tenants / f"{tenant}.toml"), tenants / f"{tenant}.toml")
    folder, licence = _base(tenants.resolve().parent / "model_artifacts", base, task, cleared)
    account = AwsAccount(account=place.account, region=place.region)
    account.require()
    values = {"JobName": name, "Image": image, "InstanceType": instance, "TrainingSet": training_set}
    chosen = {name: value for name, _, value in (text.partition("=") for text in given or ())}
    start = _Start(
        account, values | {"BaseModel": folder}, {"task": task, "base_licence": licence, **chosen}, spot
    )
    job = start.request(f"{place.name_prefix}-{tenant}-Learning", root=tenants.resolve().parent)
    terminal.step(f"started {account.call('sagemaker', 'create_training_job', **job)['TrainingJobArn']}")
    if wait:
        terminal.show(_ended(account, name))


def refuse_impossible(task: Task, instance: str, *, spot: bool) -> None:
    """Raise ConfigurationError for what an instance's accelerator cannot do."""
    accelerator, reason = instance_named(instance).accelerator, None
    if accelerator == "inf2":
        reason = "SageMaker trains on no Inferentia; take ml.trn1.2xlarge or a GPU"
    elif accelerator == "trn1":
        if task in _NOT_ON_NEURON:
            reason = "optimum-neuron trains neither preferences nor encoders; take a GPU or CPU instance"
        elif spot:
            reason = "optimum-neuron goes on from no checkpoint, an interruption loses all; leave out --spot"
    elif task == "domain":
        reason = "continued pre-training is built for Trainium alone; take ml.trn1.2xlarge or larger"
    if reason is not None:
        raise ConfigurationError(f"{task} on {instance}: {reason}.")


def _base(artifacts: Path, name: str, task: Task, cleared: str | None) -> tuple[str, str]:
    """Return the base's folder in the models bucket, and its licence."""
    kind = "embedding" if task == "embedding" else "llm"
    manifest = _MANIFESTS[kind](artifacts / kind / name)
    if manifest.accelerator not in ("gpu", "cpu") or "config.json" not in manifest.files:
        raise ConfigurationError(f"{name} is compiled, or a GGUF. Name a folder of Hugging Face's weights.")
    if manifest.sha256 is None:
        raise ConfigurationError(f"{name} has no sha256: package it first (model_artifacts/README.md).")
    if manifest.licence not in {*_FREE, cleared}:
        raise ConfigurationError(
            f"{name} has the licence {manifest.licence}, which is not known to allow a changed model in "
            f"service. Have it read, then say --licence-cleared {manifest.licence}."
        )
    return f"{kind}/{name}/{manifest.sha256}/", manifest.licence


@dataclass(frozen=True, slots=True)
class _Start:
    account: AwsAccount
    values: Mapping[str, str]
    """Of the runbook's parameters."""
    hyperparameters: Mapping[str, str]
    is_spot: bool

    def request(self, stack: str, *, root: Path) -> Mapping[str, Any]:
        """Return what CreateTrainingJob is asked for. Raises ConfigurationError, DeploymentError."""
        runbook = self.account.outputs(stack).get("TrainingShellName")
        if runbook is None:
            raise DeploymentError(f"{stack} has no training: set [learning] training = true, and deploy.")
        instance = instance_named(self.values["InstanceType"])
        self._refuse_quota(instance.name)
        document = json.loads(self.account.call("ssm", "get_document", Name=runbook)["Content"])
        steps = {step["name"]: step["inputs"] for step in document["mainSteps"]}
        text = json.dumps(steps[_STEPS[instance.has_local_disk]])
        for name, value in self.values.items():
            pattern = document["parameters"][name].get("allowedPattern", "")
            if not re.search(pattern, value):
                raise ConfigurationError(f"{name} = {value} does not fit {pattern}.")
            text = text.replace(f"{{{{ {name} }}}}", value)
        job: dict[str, Any] = json.loads(text)
        del job["Service"], job["Api"]
        job["HyperParameters"] = dict(self.hyperparameters)
        self._refuse_missing(job["InputDataConfig"])
        if self.is_spot:
            job["EnableManagedSpotTraining"] = True
            longest = job["StoppingCondition"]["MaxRuntimeInSeconds"]
            job["StoppingCondition"]["MaxWaitTimeInSeconds"] = 2 * longest
        if instance.accelerator == "trn1":
            self._add_script(job, root / "containers/training_job", cores=instance.cores)
        return job

    def _refuse_quota(self, instance: str) -> None:
        """Names of quotas: https://docs.aws.amazon.com/general/latest/gr/sagemaker.html."""
        usage = f"{instance} for {'spot ' * self.is_spot}training job usage"
        page: dict[str, Any] | None = {}
        while page is not None:
            found = self.account.call(
                "service-quotas", "list_service_quotas", ServiceCode="sagemaker", **page
            )
            for quota in found["Quotas"]:
                if quota["QuotaName"] == usage and quota["Value"] < 1:
                    raise DeploymentError(f'The quota "{usage}" is {quota["Value"]:g}. Ask AWS to raise it.')
            page = {"NextToken": found["NextToken"]} if found.get("NextToken") else None

    def _refuse_missing(self, channels: list[Mapping[str, Any]]) -> None:
        for channel in channels:
            uri = str(channel["DataSource"]["S3DataSource"]["S3Uri"])
            bucket, _, prefix = uri.removeprefix("s3://").partition("/")
            found = self.account.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            if not found["KeyCount"]:
                raise ConfigurationError(f"{uri} is empty: there is no {channel['ChannelName']} to read.")

    def _add_script(self, job: dict[str, Any], source: Path, *, cores: int) -> None:
        """Let AWS's image run our script, one process a core, from a channel beside the training set."""
        content = {Path(name).name: (source / name).read_bytes() for name in _NEURON_CODE}
        folder = f"sets/code/{sha256(b''.join(content.values())).hexdigest()}/"
        channel = deepcopy(job["InputDataConfig"][0])
        place = channel["DataSource"]["S3DataSource"]
        bucket = place["S3Uri"].removeprefix("s3://").partition("/")[0]
        for name, body in content.items():
            self.account.call("s3", "put_object", Bucket=bucket, Key=folder + name, Body=body)
        channel["ChannelName"], place["S3Uri"] = "code", f"s3://{bucket}/{folder}"
        job["InputDataConfig"].append(channel)
        job["AlgorithmSpecification"]["ContainerEntrypoint"] = ["torchrun", f"--nproc_per_node={cores}"]
        job["AlgorithmSpecification"]["ContainerArguments"] = ["/opt/ml/input/data/code/train.py"]


def _ended(account: AwsAccount, name: str) -> str:
    """Wait for the job; return where its result is. Raises DeploymentError with the reason of a failure."""
    while (job := account.call("sagemaker", "describe_training_job", TrainingJobName=name))[
        "TrainingJobStatus"
    ] not in _ENDED:
        time.sleep(POLL_S)
    status = job["TrainingJobStatus"]
    if status != "Completed":
        reason = job.get("FailureReason", "its log in /aws/sagemaker/TrainingJobs may say why")
        raise DeploymentError(f"{name} is {status}: {reason}")
    return str(job["ModelArtifacts"]["S3ModelArtifacts"])
