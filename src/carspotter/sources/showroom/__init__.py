"""Draw used-car listings whose truth is known: the demo's and the tests' data.

In: `ShowroomSettings` and a folder. Out: photos, a table of ads and the truth of both; `read` yields ads like any other
source. The names of makes and models are real, so that sellers' spellings can be resolved; the drawings resemble no
make's car. `docs/showroom.md` shows them.
"""

from carspotter.sources.showroom.listings import ShowroomSettings
from carspotter.sources.showroom.write import ShowroomSummary, draw, read, truth

__all__ = ["ShowroomSettings", "ShowroomSummary", "draw", "read", "truth"]
