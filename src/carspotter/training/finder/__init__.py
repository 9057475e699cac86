"""Training of the detector: what is in a photo, where, and from which side; the loop is `training.trainer`."""
