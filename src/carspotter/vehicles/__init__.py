"""Photos in, vehicles out: what kind of photo it is, where its vehicles are and from which side they are seen.

`finder` is our own network, `detector` runs a foreign one, and `locate` selects among what was found. Naming a
vehicle is for `recognition`.
"""
