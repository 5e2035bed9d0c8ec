"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(commands={"live": ("commands", "Try connectors of live systems; switch systems.")})
