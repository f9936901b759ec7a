"""Pedicle and iliac screws, corridor search, rods."""
