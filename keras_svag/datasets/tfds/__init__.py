"""Image data sets of tensorflow_datasets, read as arrays."""
