"""Tumour, osteotomies, kerf, specimen and margins."""
