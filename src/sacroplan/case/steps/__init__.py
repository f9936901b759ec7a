"""One module per stage: reads earlier results, calls a room, hands on its result and files."""
