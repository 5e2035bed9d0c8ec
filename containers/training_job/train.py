"""Entry of a SageMaker training job: runs the program that the hyperparameter ``task`` names.

``task`` is ``answers`` (the default) or ``preference`` (a language model, by LoRA), or ``embedding``.
"""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module
from pathlib import Path

from contract import TASK, Places, TrainingError, given_hyperparameters

os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1", HF_DATASETS_OFFLINE="1")
PROGRAMS = {"answers": "train_answers", "preference": "train_preference", "embedding": "train_embedding"}


def program_of(places: Places) -> str:
    """Return the module's name. Raises TrainingError."""
    task = given_hyperparameters(places.hyperparameters).get(TASK, "answers")
    if task not in PROGRAMS:
        raise TrainingError(f"{TASK} = {task} is none of {', '.join(PROGRAMS)}.")
    return PROGRAMS[task]


def main() -> None:
    places = Places(Path(os.environ.get("TRAINING_ROOT", "/opt/ml")))
    try:
        facts = import_module(program_of(places)).train(places)
    except TrainingError as error:
        output = places.root / "output"
        output.mkdir(parents=True, exist_ok=True)
        (output / "failure").write_text(str(error)[:1024])  # SageMaker shows so much of it
        sys.exit(str(error))
    sys.stdout.write(json.dumps(facts) + "\n")


if __name__ == "__main__":
    main()
