"""Value objects with a frame, distance fields, booleans, slicing, sampling. No files, no medicine."""
