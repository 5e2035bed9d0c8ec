"""Tables of the items of catalogues that a question names or asks for."""
# ``Option`` has the types of its doors.
# pyright: reportMissingParameterType=false

from assistant.option import Option


class Shop(Option):
    def offer(self, services):
        from assistant.options.shop.tables import OfferItems

        return OfferItems(services)


OPTION = Shop()
