"""The sacral implant: two-wing body, porous interfaces, screw, rod and suture connections."""
