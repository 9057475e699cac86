"""Where listings come from: each source reads its settings and yields ads, one at a time.

In: tables, folders, official files of a dataset, sites. Out: `Ad`, rows for `listings` and `listing_photos`. No source
writes a catalogue or fetches a photo.
"""
