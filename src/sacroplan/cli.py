"""The command line: thin, no clinical logic."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sacroplan import __version__
from sacroplan.banner import BANNER
from sacroplan.errors import CaseError, SacroplanError
from sacroplan.registry.commands import app as registry_app
from sacroplan.terminal import Bar, rich_progress

if TYPE_CHECKING:
    from sacroplan.case.runner import Listener, RunReport, State
    from sacroplan.case.stage import Stage, StageRecord

logging.getLogger("sacroplan").addHandler(logging.NullHandler())

app = typer.Typer(
    name="sacroplan",
    help=(
        "From a pelvic CT to a reviewed plan of sacral tumour resection and reconstruction.\n\n"
        "Try it: [bold]sacroplan demo[/bold] plans a synthetic patient into ./sacroplan-demo.\n\n"
        "Your own: [bold]sacroplan new mycase --ct PATH[/bold], then "
        "[bold]sacroplan run mycase[/bold], then open mycase/dossier/report.html.\n\n" + BANNER
    ),
    rich_markup_mode="rich",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

app.add_typer(registry_app, name="registry")

SERIES_HELP = "DICOM series to take: UID, number or description as check-ct --list tells them."

Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


def _version(value: bool) -> None:
    if value:
        typer.echo(f"sacroplan {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where to put the case.")] = Path("sacroplan-demo"),
    json_output: Json = False,
) -> None:
    """Plan the built-in synthetic patient, from DICOM to dossier.

    Example: sacroplan demo /tmp/demo, then open /tmp/demo/dossier/report.html
    """
    from sacroplan.case.demo import make_demo

    _announce(json_output)
    with Bar("synthetic patient", json_output) as progress:
        make_demo(folder, progress)
    _run(folder, None, json_output)


@app.command()
def new(
    folder: Annotated[Path, typer.Argument(help="Case folder to create; must not exist yet.")],
    ct: Annotated[
        Path,
        typer.Option(help="CT: DICOM folder, slice, DICOMDIR or zip; NIfTI, NRRD or MHA file."),
    ],
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Bone labels on the CT's grid: NIfTI, .seg.nrrd, DICOM SEG, or a folder of masks."
        ),
    ] = None,
    tumour: Annotated[Path | None, typer.Option(help="Tumour mask on the CT's grid.")] = None,
    mri: Annotated[Path | None, typer.Option(help="MRI to be fused to the CT on bone.")] = None,
    tumour_mri: Annotated[Path | None, typer.Option(help="Tumour mask on the MRI's grid.")] = None,
    series: Annotated[str | None, typer.Option(help=SERIES_HELP)] = None,
    case_id: Annotated[
        str | None, typer.Option("--id", help="Case id, engraved on guides; never a patient name.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Create a case folder with a commented case.toml.

    Example: sacroplan new case7 --ct /data/ct_series --tumour tumour.nii.gz
    """
    from sacroplan.case.create import create_case

    path, image = create_case(folder, ct, labels, tumour, case_id, series, mri, tumour_mri)
    if json_output:
        table = {
            "case": str(folder),
            "config": str(path),
            "series": image.info.series_uid,
            "why": image.info.why,
            "doubts": [d.message for d in image.doubts],
        }
        typer.echo(json.dumps(table))
        return
    for doubt in image.doubts:
        typer.echo(f"! {doubt.message}")
    typer.echo(f"Created {path}. Next: sacroplan run {folder}")


@app.command()
def run(
    folder: Annotated[Path, typer.Argument(help="Case folder.")],
    to: Annotated[str | None, typer.Option(help="Stop after this stage.")] = None,
    json_output: Json = False,
) -> None:
    """Bring a case up to date: unchanged stages are skipped, a killed run resumes.

    Example: sacroplan run case7 --to resection
    """
    _announce(json_output)
    _run(folder, to, json_output)


@app.command()
def status(
    folder: Annotated[Path, typer.Argument(help="Case folder.")], json_output: Json = False
) -> None:
    """Show which stages are done, stale or missing.

    Example: sacroplan status case7
    """
    from sacroplan.case.runner import status as state_of
    from sacroplan.report.stages import stages_of

    rows = state_of(folder, stages_of(folder))
    if json_output:
        table = [
            {
                "stage": s.name,
                "title": s.title,
                "state": state,
                "seconds": None if r is None else r.seconds,
                "doubts": 0 if r is None else len(r.doubts),
            }
            for s, state, r in rows
        ]
        typer.echo(json.dumps({"case": str(folder), "stages": table}, indent=2))
        return
    for stage, state, record in rows:
        seconds = "" if record is None else f"{record.seconds:7.1f} s"
        typer.echo(f"{state:8s} {stage.name:12s} {seconds:>10s}  {stage.title}")


@app.command("send")
def send_plan(
    folder: Annotated[Path, typer.Argument(help="Case folder with a finished robot plan.")],
    host: Annotated[str, typer.Option(help="Where the receiver listens.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Its OpenIGTLink port.", min=1, max=65535)] = 18944,
    json_output: Json = False,
) -> None:
    """Send entry and tip of every screw over OpenIGTLink to 3D Slicer or a navigation station.

    Example: sacroplan send case7 --host 192.168.0.20
    """
    from sacroplan.case.theatre import send

    _announce(json_output)
    table = send(folder, host, port)
    typer.echo(
        json.dumps(table)
        if json_output
        else f"Sent {table['screws']} screws to {host}:{port} in {table['messages']} messages."
    )


@app.command()
def register(
    folder: Annotated[Path, typer.Argument(help="Case folder with markers under [navigation].")],
    points: Annotated[
        Path, typer.Argument(help="The same markers as found in theatre, a Slicer .mrk.json file.")
    ],
    surface: Annotated[
        Path | None,
        typer.Option(
            help="Points probed on bone, .mrk.json: register by them; the markers, or landmarks by "
            "name, are only the rough start."
        ),
    ] = None,
    bone: Annotated[
        list[str] | None,
        typer.Option(help="Probed bone, repeat for several (without it sacrum and both hips)."),
    ] = None,
    json_output: Json = False,
) -> None:
    """Register the theatre to the CT by markers, or by points probed on bone.

    Tells FRE and the error to be expected at every screw (TRE).

    Example: sacroplan register case7 theatre.mrk.json --surface probed.mrk.json
    """
    from sacroplan.case.theatre import PROBED_BONES, register_markers, register_surface

    _announce(json_output)
    table = (
        register_markers(folder, points)
        if surface is None
        else register_surface(folder, points, surface, tuple(bone or PROBED_BONES))
    )
    if json_output:
        typer.echo(json.dumps(table, indent=2))
        return
    for name, value in table["predicted_tre_mm"].items():
        typer.echo(f"{value:6.2f} mm expected at the tip of {name}")
    typer.echo(f"FRE {table['fre_mm']:.2f} mm. {table['notice']}")
    for message in table["doubts"]:
        typer.echo(f"! {message}")


@app.command("check-ct")
def check_ct(
    path: Annotated[
        Path, typer.Argument(help="DICOM folder, slice, DICOMDIR or zip; NIfTI, NRRD, MHA file.")
    ],
    series: Annotated[str | None, typer.Option(help=SERIES_HELP)] = None,
    list_only: Annotated[
        bool, typer.Option("--list", help="List the series and why one is taken; read no pixels.")
    ] = False,
    surgery: Annotated[
        str, typer.Option(help="Month or day of surgery, YYYY-MM or YYYY-MM-DD: age of the scan.")
    ] = "",
    json_output: Json = False,
) -> None:
    """Say whether a CT is good enough for guides and implants, and why.

    Example: sacroplan check-ct /data/ct_series --list
    """
    from sacroplan.case.intake import read_and_check

    if list_only:
        _list_series(path, series, json_output)
        return
    with Bar("reading", json_output) as progress:
        image, quality = read_and_check(path, series, progress, surgery)
    if json_output:
        table = {
            "path": str(path),
            "series": image.info.series_uid,
            "why": image.info.why,
            "set_aside": list(image.info.set_aside),
            "geometry": image.volume.geometry.describe(),
            "metrics": {k: m.to_json() for k, m in sorted(quality.metrics().items())},
            "doubts": [
                {"code": d.code, "message": d.message, "rows": list(d.rows)}
                for d in (*image.doubts, *quality.doubts)
            ],
        }
        typer.echo(json.dumps(table, indent=2))
        return
    typer.echo(image.volume.geometry.describe())
    if image.info.why:
        typer.echo(f"  Series taken: {image.info.why}")
    for line in image.info.set_aside:
        typer.echo(f"  Set aside: {line}")
    for metric in quality.metrics().values():
        mark = {True: "ok", False: "outside", None: ""}[metric.within]
        typer.echo(f"  {metric.label}: {_short(metric.value)} {_unit(metric.unit)} {mark}".rstrip())
    for doubt in (*image.doubts, *quality.doubts):
        typer.echo(f"! {doubt.message}")


@app.command()
def propose(
    folder: Annotated[Path, typer.Argument(help="Case folder, planned up to landmarks.")],
    margin: Annotated[
        float | None, typer.Option(help="Wanted margin, mm; without it that of case.toml.")
    ] = None,
    json_output: Json = False,
) -> None:
    """Compare the types of resection for this tumour: margin, roots, sacroiliac joint, bone.

    Writes dossier/resection/options.json and options.png. Example: sacroplan propose case7
    """
    from sacroplan.case.outcome import propose_case

    _announce(json_output)
    with Bar("options", json_output) as progress:
        table = propose_case(folder, margin, progress)
    if json_output:
        typer.echo(json.dumps(table, indent=2))
        return
    typer.echo("      margin  roots  SI joints     bone  type (* nothing beats it)")
    for n, o in enumerate(table["options"], start=1):
        mark = "*" if o["best"] else " "
        advised = "  <- advised" if table["advised"] == n else ""
        typer.echo(
            f"{n:3d}{mark} {o['margin_mm']:6.1f} mm {o['roots_kept']:4.1f}  {o['si_joint_percent']:6.0f} % "
            f"{o['bone_cm3']:6.0f} cm3  {o['title']}{advised}"
        )
    if table["advised"] is None:
        typer.echo(f"! No type keeps {table['wanted_margin_mm']:g} mm to the tumour.")


@app.command()
def options(
    folder: Annotated[Path, typer.Argument(help="Case folder.")], json_output: Json = False
) -> None:
    """Which reconstructions apply to this patient, why, and what speaks against them.

    Brings the case up to date as far as needed. Facts that only people know stand under [facts] in
    case.toml; what is left out is shown as unknown. Example: sacroplan options case7
    """
    from sacroplan.case.outcome import options_table
    from sacroplan.case.steps.options_table import lines_of
    from sacroplan.report.stages import stages_of

    _announce(json_output)
    stages = stages_of(folder)
    with _listener(
        stages[: [s.name for s in stages].index("options") + 1], json_output
    ) as listener:
        table = options_table(folder, stages, listener)
    if json_output:
        typer.echo(json.dumps(table, indent=2))
        return
    for line in lines_of(table):
        typer.echo(line)


@app.command()
def audit(
    folder: Annotated[Path, typer.Argument(help="Case folder whose resection is planned.")],
    postop: Annotated[
        Path,
        typer.Option(
            help="After surgery or cutting: STL of the bones that stay, a label map, or a CT."
        ),
    ],
    json_output: Json = False,
) -> None:
    """Compare the bone after surgery with the plan: location, angle and margin of every cut.

    Writes dossier/audit/audit.json. Example: sacroplan audit case7 --postop postop_bones.stl
    """
    from sacroplan.case.outcome import audit_case

    _announce(json_output)
    with Bar("audit", json_output) as progress:
        table = audit_case(folder, postop, progress)
    if json_output:
        typer.echo(json.dumps(table, indent=2))
        return
    typer.echo(f"Registered on uncut bone, median residual {table['registration_mm']:.2f} mm.")
    for c in table["cuts"]:
        margin = "" if c["margin_mm"] is None else f", margin {c['margin_mm']:.1f} mm"
        typer.echo(
            f"  {c['cut']}: location {c['location_iso_mm']:.1f} mm (ISO 1101, largest) / "
            f"{c['location_gouin_mm']:.1f} mm (Gouin, least), mean {c['mean_mm']:+.1f} mm, "
            f"angle {c['angle_deg']:.1f} degrees{margin}"
        )
    for name in table["missing"]:
        typer.echo(f"! No face was found near the planned cut {name}.")


def _list_series(path: Path, series: str | None, json_output: bool) -> None:
    from sacroplan.formats.ct import list_series

    found = list_series(path, series)
    rows = [c.row() for c in found.candidates]
    if json_output:
        table = {"path": str(path), "series": rows, "set_aside": list(found.set_aside)}
        typer.echo(json.dumps(table, indent=2))
        return
    for row in rows:
        mark = "*" if row["chosen"] else " "
        kernel = f", kernel {row['kernel']}" if row["kernel"] else ""
        typer.echo(
            f"{mark} {row['series'] or '?':>5s}  {row['slices']} {row['plane']} slices of "
            f"{row['slice_mm']:g} mm over {row['extent_mm']:g} mm{kernel}  {row['description']}"
        )
        typer.echo(f"         {row['uid'] or 'no identifier'}")
        typer.echo(f"         {'taken' if row['chosen'] else 'not taken'}: {row['reason']}")
    for line in found.set_aside:
        typer.echo(f"  set aside: {line}")


def _short(value: Any) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _unit(unit: str) -> str:
    return "" if unit in ("1", "text") else unit


def _announce(json_output: bool) -> None:
    if not json_output:
        typer.echo(BANNER, err=True)


def _run(folder: Path, to: str | None, json_output: bool) -> None:
    from sacroplan.case.limits import violations
    from sacroplan.case.runner import run as run_case
    from sacroplan.report.stages import stages_of

    stages = stages_of(folder)
    with _listener(stages, json_output) as listener:
        report = run_case(folder, stages, to, listener)
    broken = violations(report.metrics)
    if json_output:
        typer.echo(json.dumps(_summary(report, broken), indent=2))
    else:
        _tell(report, broken)
    if broken:
        raise typer.Exit(3)


def _summary(report: RunReport, broken: list[str]) -> dict[str, Any]:
    return {
        "case": report.case_id,
        "folder": str(report.folder),
        "stages": [
            {"stage": r.name, "state": s, "seconds": r.seconds}
            for r, s in zip(report.records, report.states, strict=True)
        ],
        "metrics": report.metrics,
        "doubts": report.doubts,
        "violations": broken,
    }


def _tell(report: RunReport, broken: list[str]) -> None:
    for doubt in report.doubts:
        typer.echo(f"! {doubt['message']}")
    for line in broken:
        typer.echo(f"LIMIT: {line}")
    page = report.folder / "dossier" / "report.html"
    if report.records and report.records[-1].name == "dossier" and page.is_file():
        typer.echo(f"Open {page}")


class _listener:
    """Draws stages: one bar for the whole run, weighted by how long stages usually take."""

    def __init__(self, stages: tuple[Stage, ...], quiet: bool) -> None:
        self.quiet = quiet
        self.watched = not quiet and sys.stderr.isatty()
        self.total = sum(s.seconds for s in stages)
        self.done = 0.0

    def __enter__(self) -> Listener:
        if self.watched:
            self.progress = rich_progress()
            self.task = self.progress.add_task("plan", total=self.total, detail="")
            self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.watched:
            self.progress.stop()

    def stage_started(self, stage: Stage) -> None:
        if not self.quiet and not self.watched:
            typer.echo(f"{stage.name}: {stage.title} ...", err=True)

    def stage_progress(self, stage: Stage, fraction: float, message: str) -> None:
        if self.watched:
            self.progress.update(
                self.task,
                completed=self.done + fraction * stage.seconds,
                description=stage.title,
                detail=message,
            )

    def stage_finished(self, stage: Stage, record: StageRecord, state: State) -> None:
        self.done += stage.seconds
        if self.watched:
            self.progress.update(self.task, completed=self.done)
        elif not self.quiet:
            took = f"{record.seconds:.1f} s" if state == "done" else "unchanged"
            typer.echo(f"{stage.name}: {took}", err=True)


def main() -> None:
    """Entry point: bad input ends with one sentence and exit code 2, a broken limit with 3."""
    try:
        app(standalone_mode=True)
    except SacroplanError as error:
        typer.echo(f"sacroplan: {error}", err=True)
        sys.exit(2)
    except OSError as error:
        # A folder that cannot be read or written is the user's to mend, not a defect of ours.
        typer.echo(f"sacroplan: {CaseError(str(error))}", err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
