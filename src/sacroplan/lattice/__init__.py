"""Porous layers: unit cells, their measured sizes and stiffness, and their geometry over a seat."""
