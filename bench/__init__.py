"""Timing of loaders, packing and training, and the reports made from it."""
