"""Draw the showroom: used-car listings whose truth is known, once, as the file of finished pictures that ships.

In: `ShowroomSettings`. Out: the bytes of `src/carspotter/sources/showroom.zip`: photos, a table of ads, the truth of
both. The names of makes and models are real, so that sellers' spellings can be resolved; the drawings resemble no
make's car. `docs/sources.md` shows them. Nothing here is in the wheel, and nothing in the wheel draws.
"""
