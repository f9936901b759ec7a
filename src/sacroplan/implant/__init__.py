"""The sacral implant: its designs and their envelope, seats, bores, posts and porous interfaces."""
