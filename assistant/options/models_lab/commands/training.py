"""``assistant models train``: starts a training job in a tenant's account.

A job has what the learning stack's output says: role, network, keys, folders, bounds. What cannot work is
refused by name before SageMaker is asked (docs/decisions/0082-training-jobs.md).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer import Argument, Option

from assistant.domain.errors import ConfigurationError
from assistant.options.models_lab.commands import sagemaker_jobs
from assistant.tenant.manifests import TRAIN_OUTPUT, Instance, LlmManifest, instance_named
from assistant.terminal.terminal import GlobalOptions, Tenant, Terminal

if TYPE_CHECKING:
    from assistant.terminal.account import AwsAccount

Task = Literal["answers", "preference", "domain"]
_FREE = frozenset({"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"})
"""Licences that let a company change a model and serve it, without further terms."""
_NEURON_CODE = ("contract.py", "train.py", "neuron/train_neuron.py")
"""Files of ``containers/training_job`` that run on Trainium, in AWS's image."""
_REPOSITORY = r"[a-z0-9]+(?:[._/-][a-z0-9]+)*"
"""Name of an image's repository: "assistant/training-gpu"."""
_FOLDER = r"([A-Za-z0-9_=-]+(\.[A-Za-z0-9_=-]+)*/)+"
"""Folder of a training set: "2026-11/pharmacy-51ab9c/". It ends in a slash, so that no other folder is meant
that begins alike."""
CLEARED = "The base's licence: a person has read that it allows a changed model in service."


def train(
    context: typer.Context,
    tenant: Tenant,
    name: Annotated[str, Argument(metavar="JOB", help="Its name, new each time.")],
    task: Annotated[Task, Option(help="What to train.")],
    training_set: Annotated[
        str, Option("--set", metavar="FOLDER/", help="Below sets/ of the training bucket.")
    ],
    base: Annotated[str, Option(metavar="ARTIFACT", help="Folder of model_artifacts with the weights.")],
    instance: Annotated[str, Option(metavar="TYPE", help="ml.g5.2xlarge, ml.trn1.2xlarge, …")],
    image: Annotated[str, Option(metavar="URI", help="In the own registry, by digest.")],
    given: Annotated[
        list[str] | None, Option("--with", metavar="NAME=VALUE", help="A hyperparameter. Repeatable.")
    ] = None,
    spot: Annotated[bool, Option("--spot", help="Cheaper; goes on after an interruption.")] = False,
    cleared: Annotated[str | None, Option("--licence-cleared", metavar="NAME", help=CLEARED)] = None,
) -> None:
    """Start a training job of a tenant in its account, inside the learning stack's bounds."""
    from assistant.terminal.account import Deployed

    options, terminal = GlobalOptions.of(context), Terminal(steps=True)
    refuse_impossible(task, instance, spot=spot)
    deployed, root = Deployed.named(options, tenant), options.tenants_dir.resolve().parent
    folder, licence = _base(root / "model_artifacts/llm", base, cleared)
    chosen = {name: value for name, _, value in (text.partition("=") for text in given or ())}
    hyperparameters = {"task": task, "base_licence": licence, **chosen}
    account, served_on = deployed.aws, instance_named(instance)
    job = TrainingJob(account, name, image, served_on, training_set, folder, hyperparameters, spot)
    shared = deployed.output("Learning", TRAIN_OUTPUT, lacks="training: set [models_lab] training = true")
    order = job.order(json.loads(shared), root=root)
    arn = sagemaker_jobs.start("training_job", order, region=account.region, root=root)
    terminal.step(f"started {arn}")
    waiter = f"aws sagemaker wait training-job-completed-or-stopped --training-job-name {name}"
    terminal.show(f"{waiter} --region {account.region}")


def refuse_impossible(task: Task, instance: str, *, spot: bool) -> None:
    """Raise ConfigurationError for what an instance's accelerator cannot do."""
    accelerator, reason = instance_named(instance).accelerator, None
    if accelerator == "inf2":
        reason = "SageMaker trains on no Inferentia; take ml.trn1.2xlarge or a GPU"
    elif accelerator == "trn1":
        if task != "domain":
            reason = "feedback trains on a GPU or CPU instance, Trainium on a corpus alone"
        elif spot:
            reason = "optimum-neuron goes on from no checkpoint, an interruption loses all; leave out --spot"
    elif task == "domain":
        reason = "continued pre-training is built for Trainium alone; take ml.trn1.2xlarge or larger"
    if reason is not None:
        raise ConfigurationError(f"{task} on {instance}: {reason}.")


def _base(artifacts: Path, name: str, cleared: str | None) -> tuple[str, str]:
    """Return the base's folder in the models bucket, "llm/NAME/SHA256/", and its licence. ``cleared``: a
    licence that a person has read. Raises ConfigurationError for weights that cannot be tuned."""
    manifest = LlmManifest.read(artifacts / name)
    if manifest.accelerator not in ("gpu", "cpu") or "config.json" not in manifest.files:
        raise ConfigurationError(f"{name} is compiled, or a GGUF. Name a folder of Hugging Face's weights.")
    if manifest.sha256 is None:
        raise ConfigurationError(f"{name} has no sha256: package it first (model_artifacts/README.md).")
    if manifest.licence not in {*_FREE, cleared}:
        raise ConfigurationError(
            f"{name} has the licence {manifest.licence}, which is not known to allow a changed model in "
            f"service. Have it read, then say --licence-cleared {manifest.licence}."
        )
    return f"llm/{name}/{manifest.sha256}/", manifest.licence


@dataclass(frozen=True, slots=True)
class TrainingJob:
    """One job that is to be started."""

    account: AwsAccount
    name: str
    image: str
    instance: Instance
    training_set: str
    """Folder below ``sets/`` of the training bucket."""
    base: str
    """Folder of the models bucket."""
    hyperparameters: Mapping[str, str]
    is_spot: bool

    def order(self, shared: dict[str, Any], *, root: Path) -> Mapping[str, Any]:
        """Return what ``sagemaker_jobs.start`` is given. Raises ConfigurationError, DeploymentError.

        ``shared``: the request that all jobs share, by the learning stack's output. Its ``InputDataConfig``
        has two channels, ``training`` and ``model``, whose folders this completes. ``root``: the checkout.
        """
        from assistant.terminal.account import require_quota

        usage = f"{self.instance.name} for {'spot ' * self.is_spot}training job usage"
        require_quota(self.account, usage)
        order = self.completed(shared)
        self._refuse_missing(order["channels"])
        if self.instance.accelerator == "trn1":
            self._add_script(order, root / "containers/training_job", cores=self.instance.cores)
        return order

    def completed(self, shared: Mapping[str, Any]) -> dict[str, Any]:
        """Return the order: ``shared`` with what is this job's own. Raises ConfigurationError."""
        from assistant.terminal.publishing import Registry

        host = Registry(account=self.account.account, region=self.account.region).host
        if not re.fullmatch(rf"{re.escape(host)}/{_REPOSITORY}@sha256:[0-9a-f]{{64}}", self.image):
            raise ConfigurationError(f"{self.image} is no image of {host} by its digest: make images")
        if not re.fullmatch(_FOLDER, self.training_set):
            raise ConfigurationError(f"{self.training_set} is no folder below sets/: write it as 2026-11/")
        # In the order of the stack: the channel of the set, then that of the base.
        folders = zip(shared["InputDataConfig"], (self.training_set, self.base), strict=True)
        return {
            "shared": {field: value for field, value in shared.items() if field != "InputDataConfig"},
            "name": self.name,
            "container": {"training_image": self.image},
            "instance": self.instance.name,
            "has_local_disk": self.instance.has_local_disk,
            "is_spot": self.is_spot,
            "hyperparameters": dict(self.hyperparameters),
            "channels": {
                channel["ChannelName"]: channel["DataSource"]["S3DataSource"]["S3Uri"] + folder
                for channel, folder in folders
            },
        }

    def _refuse_missing(self, channels: Mapping[str, str]) -> None:
        """Raise ConfigurationError for a channel (name and ``s3://`` folder) that holds nothing."""
        for name, uri in channels.items():
            bucket, _, prefix = uri.removeprefix("s3://").partition("/")
            listed = self.account.call("s3", "list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
            if not listed["KeyCount"]:
                raise ConfigurationError(f"{uri} is empty: there is no {name} to read.")

    def _add_script(self, order: dict[str, Any], source: Path, *, cores: int) -> None:
        """Let AWS's image run our script, one process a core: put the script into a folder beside the
        training sets, and add to ``order`` its channel, entry point and arguments."""
        content = {Path(name).name: (source / name).read_bytes() for name in _NEURON_CODE}
        folder = f"sets/code/{sha256(b''.join(content.values())).hexdigest()}/"
        bucket = order["channels"]["training"].split("/")[2]
        for name, body in content.items():
            self.account.call("s3", "put_object", Bucket=bucket, Key=folder + name, Body=body)
        order["channels"]["code"] = f"s3://{bucket}/{folder}"
        order["container"]["container_entrypoint"] = ["torchrun", f"--nproc_per_node={cores}"]
        order["container"]["container_arguments"] = ["/opt/ml/input/data/code/train.py"]
