"""From a photo to an answer: find the vehicles, crop them as in training, identify them, draw the result."""
