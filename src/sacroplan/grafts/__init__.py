"""Living bone: struts of fibula, a femur turned into the pelvis; their seats, cuts, vessels and loads."""
