"""Dead space, cover over metal, flaps: what the wound needs and what each flap brings."""
