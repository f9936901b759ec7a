"""Bones from grey levels without network weights: seeds, watershed, merging, finish."""
