"""Review: what a person decides of photos, labels and words, by keyboard in a browser or a notebook, and its file."""
