"""What the option for catalogues brings to the core: tables of the items that a question names or asks for.

``OfferItems`` of ``tables.py`` in this folder joins the core's place "offers"
(``assistant/answer/offers.py``).
"""

from assistant.option import Option

OPTION = Option(joins={"offers": "tables:OfferItems"})
