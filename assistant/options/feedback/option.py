"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    commands={"learn": ("commands", "Learn from agents' feedback, and erase a patient from it.")},
    joins={
        "commands of models": "capture_commands:add_to_models",
        "runs of a machine": "opened:open_loops",
        "texts of documents": "receipt:KEPT",
    },
)
