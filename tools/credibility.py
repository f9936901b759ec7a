"""Writes docs/credibility.md: what the tests of the mechanics room measured, in V&V 40 order.

Runs the fast verification tests and collects the figures that they leave (``claim``).
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/mechanics/test_mechanics_verification.py",
    "tests/mechanics/test_mechanics_solver.py",
    "tests/mechanics/test_mechanics_contact.py",
)

HEAD = """# Credibility of the mechanics

In the order of ASME V&V 40-2018. `make validate` writes this page anew from what the tests measured; a test fails where a figure misses what is asked.

## Question of interest and context of use

Does a planned sacral reconstruction carry standing, walking and turning in bed without its metal yielding or tiring, without overstraining the bone that is left, and with seats that can grow in? The model ranks designs of one patient and warns. It does not release an implant: influence on the decision is one part among surgeon, engineer and printed trial; a wrong answer costs a revision, so the consequence is high and every figure is shown with what it leaves out.

## What the model is

- Geometry: bones, discs, sacroiliac joints and symphysis of the patient's own surfaces, implant core, porous layers, screws, rods; one conforming mesh of quadratic tetrahedra.
- Materials: bone modulus from the CT through a named law chain with an explicit cortex (EM-08, EM-10, EM-14, CAL-06 to CAL-10), the low and high law on request; porous layers by the Gibson-Ashby law of LAT-01 or a given 6 by 6 tensor.
- Supports and loads: the catalogue of LC-01 to LC-08, scaled to the body mass; the sum of loads and reactions of every case is printed.
- Interfaces: bonded after ingrowth; before it, contact with Coulomb friction at the seats (SP-MECH-11), screws tied.
- Joints: sacroiliac cartilage bonded and without ligaments, or in contact with tension-only ligaments (SP-MECH-14, SP-MECH-17) and facet joints, by `[mechanics] joints`.
- Left out: the toe region of ligaments, muscles but the abductors of single-leg stance, fibres of the disc, large motion, plasticity.

## Code verification

"""

TAIL = """
## Solution verification

Every solution is checked against forces recomputed from the elements (residual) and against the sum of loads and reactions (imbalance); both are metrics of the case. Element sizes (SP-MECH-08) were chosen on a male pelvis with 0.2 and 0.43 million unknowns: stiffness 3 %, rod stress 3 %, its 3 mm mean 9 %, bone risk 13 % apart. A grid convergence index on the case's own construct is not computed yet.

## Validation

Comparison with CalculiX on the exported decks, bonded and in contact, and with published experiments: [validation.md](validation.md). VAL-01: order kept, ratios missed. VAL-06: nutation missed. VAL-20: the intact specimen met, total sacrectomy missed and not converged. VAL-23: order of stress met, of sinking missed. Trust differences between designs on like meshes rather than absolute motion (SED-3).
"""


def claims(report: Path) -> list[tuple[str, str, str, str]]:
    """(what, measured, asked, passed) of every figure in a JUnit report."""
    rows = []
    for case in ElementTree.parse(report).iter("testcase"):
        failed = case.find("failure") is not None or case.find("error") is not None
        for entry in case.iter("property"):
            if entry.get("name") == "claim":
                what, measured, asked = (x.strip() for x in entry.get("value", "").split(" | "))
                rows.append((what, measured, asked, "no" if failed else "yes"))
    return rows


def main() -> int:
    """Run the tests, write the page, answer with pytest's exit code."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.xml"
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-m",
                "not slow",
                f"--junitxml={report}",
                *TESTS,
            ],
            cwd=ROOT,
            check=False,
        )
        rows = claims(report)
    lines = ["| what | measured | asked | met |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    page = HEAD + "\n".join(lines) + "\n" + TAIL
    (ROOT / "docs" / "credibility.md").write_text(page, "utf-8")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
