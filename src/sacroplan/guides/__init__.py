"""Cutting guides: fit surface, slots, wires, stability, engraving."""
