"""The registry: what became of the patients, and what may be said about it."""
