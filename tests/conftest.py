from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared() -> Path:
    """The reference data folder; developers may lack it, continuous integration may not."""
    default = Path(__file__).resolve().parents[1].parent / "shared"
    folder = Path(os.environ.get("SACROPLAN_SHARED", default))
    if (folder / "data").is_dir():
        return folder
    reason = (
        f"The reference data are not at {folder}; put them beside the checkout "
        "or name the folder in SACROPLAN_SHARED."
    )
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(reason)
    pytest.skip(reason)
