"""Training of the identifier: which car a crop shows; the loop is `training.trainer`."""
