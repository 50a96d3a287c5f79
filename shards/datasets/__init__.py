"""The data sets the project reads: NIH ChestX-ray14, and phantoms in its layout."""
