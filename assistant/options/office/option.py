"""What the option for office files brings to the core: readers of PDF, Word, PowerPoint, Excel and e-mails.

``KINDS`` of ``kinds.py`` in this folder joins the core's place "kinds of files"
(``assistant/documents/files.py``).
"""

from assistant.option import Option

OPTION = Option(joins={"kinds of files": "kinds:KINDS"})
