"""Label tables, splits, image codecs and WebDataset tar shards. Imports no torch and no DALI."""
