"""What this option brings to the core."""

from assistant.option import Option

OPTION = Option(
    needs=("live", "panel"),
    joins={
        "pages of sample systems": "laptop:open_helpdesk",
        "pages of the demo": "laptop:show_pages",
    },
)
