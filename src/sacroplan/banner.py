"""The words that must stand in every report, file header and command line (HANDBOOK section 13)."""

from __future__ import annotations

BANNER = (
    "Research software. Not a medical device, not cleared or CE-marked, not for diagnosis or "
    "treatment decisions. Outputs must be independently verified by a qualified clinician and "
    "engineer; no output is an implant design release."
)
"""The mandatory banner, verbatim."""

BANNER_SHORT = "RESEARCH ONLY, NOT A MEDICAL DEVICE"
"""For headers with no room for the whole banner (80 bytes in an STL file)."""
