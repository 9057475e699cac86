"""An attribute of one's own: its labels, a head on still features, a network that learns it."""
