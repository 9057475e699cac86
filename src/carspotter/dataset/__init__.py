"""Dataset: labelled photos in, splits that do not leak and shards for training out. It needs the extra `data`."""
