"""
A projection for the post office of shop.py.
"""

from holdfast import App, Projection, ProjectionContext, Retry, on
from tests.cli.shop import Letter, Parcel, Posted


class Weights(Projection):
    """
    Adds up grams; chokes on a weight of 13.
    """

    name = "weights"
    source = (Parcel, Letter)
    retry = Retry(attempts=2, first=0.01)
    choking = True

    @on(Posted)
    def posted(self, event: Posted, ctx: ProjectionContext) -> None:
        if event.grams == 13 and type(self).choking:
            raise ValueError("\x1b[31munlucky")


app = App(workflows=[Parcel, Letter], projections=[Weights()])
