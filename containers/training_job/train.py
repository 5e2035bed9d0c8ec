"""Entry of a SageMaker training job: runs the program that the hyperparameter ``task`` names.

In our image (GPU, CPU) ``task`` is ``answers`` (the default) or ``preference``, both by LoRA. In AWS's image
for Trainium it is ``domain``; Python there is 3.10. ``TRAINING_ROOT`` replaces ``/opt/ml`` in
tests. ``TRAINING_USER``, which our image sets, is the id of the user that the job runs as after it starts as
root; 0 or nothing: it stays root. The programs lie beside this file: ``train_lora`` in our image,
``train_neuron`` in the channel ``code``.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from contract import TASK, Places, TrainingError, given_hyperparameters

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
TASKS = {"train_lora": ("answers", "preference"), "train_neuron": ("domain",)}
"""Tasks by the module that knows them."""
REFUSED = {
    "train_neuron": "feedback trains on a GPU or CPU instance",
    "train_lora": "continued pre-training is built for Trainium alone; take a trn1 instance",
}
"""Why a module has no more tasks, for the error."""


def program_of(places: Places, *, is_neuron: bool) -> str:
    """Return the module's name (``train_lora``), whose function ``train`` takes the places and returns the
    card.

    Raises TrainingError for a task that the machine cannot do.
    """
    program = "train_neuron" if is_neuron else "train_lora"
    task = given_hyperparameters(places.hyperparameters).get(TASK, "answers")
    if task not in TASKS[program]:
        known = ", ".join(TASKS[program])
        raise TrainingError(f"{TASK} = {task} is none of {known} here: {REFUSED[program]}.")
    return program


def leave_root(places: Places, user: int) -> None:
    """Change the owner of the folders that the job writes to ``user`` (id of user and group), and become that
    user for good, with no other group. Call it as root, before anything of the job is read.

    Raises TrainingError where that user cannot read the job's input.
    """
    for folder in (places.checkpoints, places.model, places.root / "output"):
        folder.mkdir(parents=True, exist_ok=True)
        os.chown(folder, user, user, follow_symlinks=False)
        for path in folder.rglob("*"):
            os.chown(path, user, user, follow_symlinks=False)
    inputs = list((places.root / "input").rglob("*"))  # listed as root: the user may be unable to
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    os.environ.update(HOME="/tmp", USER="training")  # noqa: S108  # for caches of compiled kernels; the id has no name
    for path in inputs:
        if not os.access(path, os.R_OK):
            raise TrainingError(f"The user {user} cannot read {path}. To run as root, give TRAINING_USER=0.")


def main() -> None:
    places = Places(Path(os.environ.get("TRAINING_ROOT", "/opt/ml")))
    user = int(os.environ.get("TRAINING_USER", "0"))
    try:
        if user and os.geteuid() == 0:
            leave_root(places, user)
        program = program_of(places, is_neuron=find_spec("torch_neuronx") is not None)
        card = import_module(program).train(places)
    except TrainingError as error:
        output = places.root / "output"
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").write_text(str(error)[:1024])  # SageMaker shows so much of it
        sys.exit(str(error))
    sys.stdout.write(json.dumps(card) + "\n")


if __name__ == "__main__":
    main()
