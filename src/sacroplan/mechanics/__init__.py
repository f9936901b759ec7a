"""Finite elements: materials from HU, tetrahedral model, load cases, solvers, criteria, deck."""
