"""Printability of parts, clashes between them, print files."""
