"""Which reconstructions apply, why, and what speaks against them: rules as data, unknown is not false."""
