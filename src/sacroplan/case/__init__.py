"""The case folder: case.toml, stages with a content-hash cache, provenance."""
