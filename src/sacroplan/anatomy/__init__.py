"""Bones from a CT, landmarks, pelvic frames, spinopelvic parameters."""
