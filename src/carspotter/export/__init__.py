"""Export: a training run in, a model bundle out. It needs the extra `export` and trains nothing."""
