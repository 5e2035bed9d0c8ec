"""Instances that a SageMaker endpoint may stand on: what of memory, cores and disk each has.

Sources: https://aws.amazon.com/ec2/instance-types/ (families Inf2, Trn1, G5, G6, G6e, C7i, M7i) and
https://awsdocs-neuron.readthedocs-hosted.com/en/latest/about-neuron/arch/ (chips, cores and their memory),
read 2026-11-20. SageMaker's names are EC2's with ``ml.`` before them.
"""

from __future__ import annotations

from dataclasses import dataclass

from assistant.domain.errors import ConfigurationError
from assistant.settings.deployment_sections import Accelerator


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    name: str
    accelerator: Accelerator
    vcpus: int
    host_gib: int
    devices: int = 0
    """Chips or GPUs."""
    cores: int = 0
    """What tensor parallelism is spread over: NeuronCores, or GPUs."""
    device_gb: int = 0
    """Memory of all devices together, 10⁹ bytes."""
    nvme_gb: int = 0
    """Local disks; with none the volume is EBS, whose size is asked for and which a key encrypts."""

    @property
    def has_local_disk(self) -> bool:
        return self.nvme_gb > 0


def instance_named(name: str) -> Instance:
    """Raises ConfigurationError with the instances that are known."""
    for instance in INSTANCES:
        if instance.name == name:
            return instance
    known = ", ".join(instance.name for instance in INSTANCES)
    raise ConfigurationError(f"{name}: not an instance whose memory is known here; known are {known}.")


def _neuron(
    name: str, *, chips: int, vcpus: int, host_gib: int, accelerator: Accelerator, nvme_gb: int = 0
) -> Instance:
    """Inferentia2 and Trainium alike: two cores and 32 GB a chip."""
    return Instance(
        name=name,
        accelerator=accelerator,
        vcpus=vcpus,
        host_gib=host_gib,
        devices=chips,
        cores=2 * chips,
        device_gb=32 * chips,
        nvme_gb=nvme_gb,
    )


def _gpu(name: str, *, gpus: int, gpu_gb: int, vcpus: int, host_gib: int, nvme_gb: int) -> Instance:
    return Instance(
        name=name,
        accelerator="gpu",
        vcpus=vcpus,
        host_gib=host_gib,
        devices=gpus,
        cores=gpus,
        device_gb=gpus * gpu_gb,
        nvme_gb=nvme_gb,
    )


def _cpu(name: str, *, vcpus: int, host_gib: int) -> Instance:
    return Instance(name=name, accelerator="cpu", vcpus=vcpus, host_gib=host_gib)


INSTANCES: tuple[Instance, ...] = (
    _neuron("ml.inf2.xlarge", chips=1, vcpus=4, host_gib=16, accelerator="inf2"),
    _neuron("ml.inf2.8xlarge", chips=1, vcpus=32, host_gib=128, accelerator="inf2"),
    _neuron("ml.inf2.24xlarge", chips=6, vcpus=96, host_gib=384, accelerator="inf2"),
    _neuron("ml.inf2.48xlarge", chips=12, vcpus=192, host_gib=768, accelerator="inf2"),
    _neuron("ml.trn1.2xlarge", chips=1, vcpus=8, host_gib=32, accelerator="trn1", nvme_gb=475),
    _neuron("ml.trn1.32xlarge", chips=16, vcpus=128, host_gib=512, accelerator="trn1", nvme_gb=7600),
    _gpu("ml.g5.xlarge", gpus=1, gpu_gb=24, vcpus=4, host_gib=16, nvme_gb=250),
    _gpu("ml.g5.2xlarge", gpus=1, gpu_gb=24, vcpus=8, host_gib=32, nvme_gb=450),
    _gpu("ml.g5.4xlarge", gpus=1, gpu_gb=24, vcpus=16, host_gib=64, nvme_gb=600),
    _gpu("ml.g5.12xlarge", gpus=4, gpu_gb=24, vcpus=48, host_gib=192, nvme_gb=3800),
    _gpu("ml.g6.xlarge", gpus=1, gpu_gb=24, vcpus=4, host_gib=16, nvme_gb=250),
    _gpu("ml.g6.2xlarge", gpus=1, gpu_gb=24, vcpus=8, host_gib=32, nvme_gb=450),
    _gpu("ml.g6.4xlarge", gpus=1, gpu_gb=24, vcpus=16, host_gib=64, nvme_gb=600),
    _gpu("ml.g6.12xlarge", gpus=4, gpu_gb=24, vcpus=48, host_gib=192, nvme_gb=3760),
    _gpu("ml.g6e.xlarge", gpus=1, gpu_gb=48, vcpus=4, host_gib=32, nvme_gb=250),
    _gpu("ml.g6e.2xlarge", gpus=1, gpu_gb=48, vcpus=8, host_gib=64, nvme_gb=450),
    _gpu("ml.g6e.4xlarge", gpus=1, gpu_gb=48, vcpus=16, host_gib=128, nvme_gb=600),
    _gpu("ml.g6e.12xlarge", gpus=4, gpu_gb=48, vcpus=48, host_gib=384, nvme_gb=3800),
    _cpu("ml.c7i.large", vcpus=2, host_gib=4),
    _cpu("ml.c7i.xlarge", vcpus=4, host_gib=8),
    _cpu("ml.c7i.2xlarge", vcpus=8, host_gib=16),
    _cpu("ml.c7i.4xlarge", vcpus=16, host_gib=32),
    _cpu("ml.m7i.large", vcpus=2, host_gib=8),
    _cpu("ml.m7i.xlarge", vcpus=4, host_gib=16),
    _cpu("ml.m7i.2xlarge", vcpus=8, host_gib=32),
)

DEFAULT_INSTANCES: dict[Accelerator, str] = {
    "inf2": "ml.inf2.8xlarge",  # the xlarge has the same chip, and too little host memory to load 8B
    "trn1": "ml.trn1.2xlarge",
    "gpu": "ml.g6e.2xlarge",
    "cpu": "ml.c7i.xlarge",
}
"""What a tenant file that names no instance gets."""
