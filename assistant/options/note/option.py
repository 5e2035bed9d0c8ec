"""The note of a conversation: what was asked, which lines answered, what was sent, as JSON or text.

Its router is ``router`` of ``routes.py`` in this folder ("routes:router"). It joins the core's place "routes"
(``assistant/service/app.py``), which adds it to the service.
"""

from assistant.option import Option

OPTION = Option(joins={"routes": "routes:router"})
