"""The photographs of listings: fetched, hashed, checked, and grouped where they show the same picture.

In: rows of `listing_photos` and the bytes they name. Out: rows of `files`, `checks` and `duplicates`. What a photo
shows is the business of `vehicles`.
"""
