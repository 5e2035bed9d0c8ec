"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(joins={"routes": "routes:router"})
