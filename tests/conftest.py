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


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """Under continuous integration nothing may be skipped: a skip is a test that proves nothing."""
    report = yield
    forbidden = os.environ.get("CI", "").lower() == "true"
    if forbidden and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"Skipped, which continuous integration forbids: {report.longrepr}"
    return report
