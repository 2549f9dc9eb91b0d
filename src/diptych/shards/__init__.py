"""Datasets as WebDataset shards: tar files of images and an index beside them, in a folder or at an address."""
