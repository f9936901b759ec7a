"""``sacroplan registry``: thin commands; heavy libraries are imported where they are used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sacroplan.banner import BANNER
from sacroplan.terminal import Bar

if TYPE_CHECKING:
    from sacroplan.registry.database import Registry
    from sacroplan.registry.integrity import Finding

app = typer.Typer(
    help=(
        "What became of the patients: a database by pseudonym, scores, calendar, statistics, report.\n\n"
        "Start: sacroplan registry new, then sacroplan registry import patients.csv"
    ),
    no_args_is_help=True,
)

Db = Annotated[
    str | None,
    typer.Option(
        "--db",
        help="SQLite file or postgresql://user@host/database; $SACROPLAN_REGISTRY, else registry.sqlite.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
Who = Annotated[
    str | None, typer.Option(help="Who makes the change; $SACROPLAN_WHO, else the login name.")
]
Pairs = Annotated[list[str] | None, typer.Argument(help="Fields as name=value.")]


def _open(db: str | None, who: str | None = None) -> Registry:
    from sacroplan.registry.database import open_registry

    return open_registry(db, who)


def _say(table: Any, lines: Sequence[str], json_output: bool) -> None:
    if json_output:
        typer.echo(json.dumps(table, indent=2, default=str))
    else:
        for line in lines:
            typer.echo(line)


def _pairs(told: Sequence[str] | None) -> dict[str, str]:
    from sacroplan.registry.errors import RegistryError

    out: dict[str, str] = {}
    for pair in told or ():
        name, sign, value = pair.partition("=")
        if not sign or not name:
            raise RegistryError(f"'{pair[:40]}' is no field: write name=value, as margin=wide.")
        if name in out:
            raise RegistryError(f"The field {name} is given twice.")
        out[name] = value
    return out


@app.command()
def new(db: Db = None, who: Who = None, json_output: Json = False) -> None:
    """Make a registry, or bring an older one to this version's schema.

    Example: sacroplan registry new --db outcomes.sqlite
    """
    from sacroplan.registry.database import create, head

    made = create(db, who)
    _say(
        {"registry": made.shown, "schema": head()},
        [f"{made.shown} is ready (schema {head()}).", BANNER],
        json_output,
    )


@app.command()
def add(
    table: Annotated[str, typer.Argument(help="patient, operation, visit, score, event ...")],
    pseudonym: Annotated[
        str, typer.Argument(help="The patient, e.g. QL-00012; auto for the next.")
    ],
    fields: Pairs = None,
    case: Annotated[
        Path | None, typer.Option(help="Case folder that the operation followed.")
    ] = None,
    ask: Annotated[bool, typer.Option("--ask", help="Ask for every field.")] = False,
    db: Db = None,
    who: Who = None,
    json_output: Json = False,
) -> None:
    """Add one row: fields as name=value, or --ask for a form.

    Example: sacroplan registry add visit QL-00012 visited_on=2024-05-06 walking=unaided
    """
    from sacroplan.registry import records
    from sacroplan.registry.errors import RegistryError

    told = _pairs(fields)
    if case is not None:
        if table != "operation":
            raise RegistryError(f"A case belongs to an operation, not to a {table}.")
        told |= records.link_case(case)
    if ask:
        told = _form(table, told)
    row, name = records.add(_open(db, who), table, pseudonym, told)
    _say({"table": table, "id": row, "pseudonym": name}, [f"{table} {row} of {name}"], json_output)


def _form(table: str, told: dict[str, str]) -> dict[str, str]:
    from sacroplan.registry import records, scores, values
    from sacroplan.registry.errors import RegistryError

    out = dict(told)
    if table == "score":
        out.setdefault("visited_on", typer.prompt("Date of visit (YYYY-MM-DD)", default=""))
        for name, (instrument, _) in scores.fields().items():
            while name not in out:
                text = typer.prompt(f"{instrument.title}, {name}", default="", show_default=False)
                try:
                    scores.answer(instrument, text)
                    out[name] = text
                except RegistryError as error:
                    typer.echo(f"{error}.")
        return {k: v for k, v in out.items() if v}
    for field in records.spec_of(table).fields:
        if field.kind == "pseudonym" or field.name in out:
            continue
        choices = f" [{', '.join(field.codes)}]" if field.codes else ""
        unit = "" if field.unit == "1" else f" ({field.unit})"
        while True:
            text = typer.prompt(
                f"{field.label}{unit}{choices}", default=field.default or "", show_default=False
            )
            value = values.parse(field, text)
            if not isinstance(value, values.Refused):
                out[field.name] = text
                break
            typer.echo(f"{field.label} {value}.")
    return out


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="CSV or Excel file.")],
    mapping: Annotated[
        Path | None, typer.Option(help="TOML file: which column is which field.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="Table that columns without a table's name belong to.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, list every fault, store nothing.")
    ] = False,
    db: Db = None,
    who: Who = None,
    json_output: Json = False,
) -> None:
    """Import a table, whole or not at all.

    Example: sacroplan registry import visits.csv --table visit --dry-run
    """
    from sacroplan.registry import cohort, ingest, rowcheck
    from sacroplan.registry import mapping as mappings

    registry = _open(db, who)
    told = mappings.read(mapping, table)
    with Bar("import", json_output) as progress:
        done = ingest.import_file(registry, file, told, dry_run, progress)
    findings = rowcheck.check(registry, cohort.load(registry)) if done.stored else ()
    doubtful = [f for f in findings if f.verdict == "inconsistent"]
    table_ = {
        "file": str(file),
        "rows": done.rows,
        "stored": done.stored,
        "added": done.added,
        "rejected": [r._asdict() for r in done.rejections],
        "remarks": [r._asdict() for r in done.remarks],
        "integrity": [f.to_json() for f in doubtful],
    }
    lines = [f"row {r.row}, {r.column or 'row'}: {r.reason}" for r in done.rejections]
    lines += [f"! row {r.row}, {r.column}: {r.reason}" for r in done.remarks]
    lines += [f"! {f.label}: {f.reason}" for f in doubtful]
    count = ", ".join(f"{n} {t}" for t, n in done.added.items())
    _say(table_, lines, json_output)
    if done.rejections:
        rows = len({r.row for r in done.rejections})
        typer.echo(
            f"sacroplan: {file}: {rows} of {done.rows} rows are rejected; nothing was stored. Mend them, "
            "or map what is meant otherwise.",
            err=True,
        )
        raise typer.Exit(2)
    if not json_output:
        typer.echo(f"{'Would add' if dry_run else 'Added'} {count} from {done.rows} rows.")


@app.command("list")
def list_(
    due: Annotated[
        bool, typer.Option("--due", help="Who is due, overdue or lost, by paper A's calendar.")
    ] = False,
    today: Annotated[str, typer.Option(help="Date to reckon from, YYYY-MM-DD; today.")] = "",
    db: Db = None,
    json_output: Json = False,
) -> None:
    """List the patients, or who must be seen next.

    Example: sacroplan registry list --due
    """
    if due:
        _due(db, today, json_output)
        return
    from sacroplan.registry.cohort import load

    c = load(_open(db))
    rows = [
        {
            "pseudonym": str(c.pseudonyms[k]),
            "diagnosis": str(c.columns["diagnosis"][k]),
            "months": round(float(c.follow_up[k]), 1),
            "dead": bool(c.dead[k]),
        }
        for k in range(c.n)
    ]
    lines = [
        f"{r['pseudonym']:14s} {r['diagnosis']:16s} {r['months']:6.1f} months "
        f"{'dead' if r['dead'] else ''}".rstrip()
        for r in rows
    ]
    lines.append(f"{c.n} patients with an operation, {c.unoperated} without")
    _say({"patients": rows, "without_operation": c.unoperated}, lines, json_output)


def _day(text: str) -> Any:
    from datetime import date

    from sacroplan.registry.errors import RegistryError

    try:
        return date.fromisoformat(text) if text else date.today()
    except ValueError as error:
        raise RegistryError(f"'{text[:20]}' is not a date as 2024-05-31.") from error


def _due(db: str | None, today: str, json_output: bool) -> None:
    from sacroplan.registry.calendar import due as due_list

    found = due_list(_open(db), _day(today))
    rows = [
        {"pseudonym": d.pseudonym, "what": d.what, "state": d.state, "month": d.month,
         "on": d.next_on.isoformat()}
        for d in found
    ]  # fmt: skip
    lines = [
        f"{d.state:8s} {d.pseudonym:14s} {d.what:8s} month {d.month:3d}  {d.next_on}"
        for d in found
        if d.state != "waiting"
    ]
    count = {s: sum(d.state == s for d in found) for s in ("overdue", "due", "lost", "waiting")}
    lines.append(", ".join(f"{n} {s}" for s, n in count.items()))
    _say({"appointments": rows, "count": count}, lines, json_output)


@app.command()
def show(
    pseudonym: Annotated[str, typer.Argument(help="The patient, e.g. QL-00012.")],
    history: Annotated[
        str, typer.Option(help="Show every change of a row instead, as visit:17.")
    ] = "",
    db: Db = None,
    json_output: Json = False,
) -> None:
    """Show what is known of one patient, or how a row came to be.

    Example: sacroplan registry show QL-00012 --history operation:3
    """
    from sacroplan.registry import records
    from sacroplan.registry.errors import RegistryError

    registry = _open(db)
    if history:
        table, _, row = history.partition(":")
        if not row.isdigit():
            raise RegistryError(f"'{history}' names no row; write table:number, as visit:17.")
        changes = records.history(registry, table, int(row))
        lines = [
            f"{c['when']} {c['who']}: {'added' if c['before'] is None else _changed(c)}"
            for c in changes
        ]
        _say({"row": history, "changes": changes}, lines, json_output)
        return
    found = records.show(registry, pseudonym)
    lines = []
    for name, rows in found.items():
        for r in rows if isinstance(rows, list) else ():
            told = ", ".join(
                f"{k} {v}" for k, v in r.items() if v is not None and not k.endswith("id")
            )
            lines.append(f"{name}:{r['id']}  {told}")
    _say(found, lines, json_output)


def _changed(change: dict[str, Any]) -> str:
    before, after = change["before"], change["after"]
    return ", ".join(f"{k} {before[k]} -> {after[k]}" for k in after if before[k] != after[k])


@app.command()
def edit(
    row: Annotated[str, typer.Argument(help="Row as table:number, from show; e.g. operation:3.")],
    fields: Pairs = None,
    delete: Annotated[
        bool, typer.Option("--delete", help="Mark the row and what hangs on it as deleted.")
    ] = False,
    db: Db = None,
    who: Who = None,
    json_output: Json = False,
) -> None:
    """Change fields of one row, or mark it as deleted; the audit keeps what was there.

    Example: sacroplan registry edit operation:3 margin=marginal
    """
    from sacroplan.registry import records
    from sacroplan.registry.errors import RegistryError

    table, _, number = row.partition(":")
    if not number.isdigit():
        raise RegistryError(f"'{row}' names no row; write table:number, as operation:3.")
    told = _pairs(fields)
    if delete and told:
        raise RegistryError("Give fields to change or --delete, not both.")
    registry = _open(db, who)
    if delete:
        records.remove(registry, table, int(number))
    else:
        records.edit(registry, table, int(number), told)
    done = "deleted" if delete else "changed"
    _say({"row": row, done: True}, [f"{row} {done}"], json_output)


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="Folder to write; a file with --dictionary.")],
    release: Annotated[
        bool, typer.Option("--release", help="Days for dates, no pseudonyms, small cells withheld.")
    ] = False,
    dictionary: Annotated[
        bool, typer.Option("--dictionary", help="The data dictionary in REDCap's format.")
    ] = False,
    db: Db = None,
    json_output: Json = False,
) -> None:
    """Write all tables as CSV, a release set, or the data dictionary.

    Example: sacroplan registry export release-2025 --release
    """
    from sacroplan.formats.atomic import write_text
    from sacroplan.registry import export as exports
    from sacroplan.registry.errors import RegistryError

    if release and dictionary:
        raise RegistryError("Give --release or --dictionary, not both.")
    if dictionary:
        write_text(out, exports.dictionary_csv())
        _say({"dictionary": str(out)}, [f"Wrote {out}"], json_output)
        return
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RegistryError(f"{out} exists and is not empty; name a new folder.")
    registry = _open(db)
    counts = (exports.export_release if release else exports.export_csv)(registry, out)
    lines = [f"{n:8d} {name}" for name, n in counts.items()] + [f"Wrote {out}"]
    _say({"folder": str(out), "rows": counts}, lines, json_output)


@app.command()
def check(
    paper: Annotated[str | None, typer.Option(help="Check what paper A or B states.")] = None,
    summary: Annotated[
        Path | None, typer.Option(help="Check the claims of a summary file (TOML).")
    ] = None,
    db: Db = None,
    json_output: Json = False,
) -> None:
    """Do the figures fit each other? Of a paper, of a summary, or of the registry.

    Example: sacroplan registry check --paper A
    """
    from sacroplan.registry import integrity
    from sacroplan.registry.errors import RegistryError

    if paper and summary:
        raise RegistryError("Give --paper or --summary, not both.")
    if paper or summary:
        told = integrity.paper(paper) if paper else integrity.read(Path(str(summary)))
        of, source = told.title, f"{told.source} [{told.flag}]"
        findings = integrity.check(told)
    else:
        from sacroplan.registry import cohort, rowcheck

        registry = _open(db)
        of, source = registry.shown, ""
        findings = rowcheck.check(registry, cohort.load(registry))
    _tell_findings(of, source, findings, json_output)


def _tell_findings(of: str, source: str, findings: Sequence[Finding], json_output: bool) -> None:
    from sacroplan.registry.integrity import by_verdict

    groups = by_verdict(findings)
    table = {
        "of": of,
        "source": source,
        "verdicts": groups,
        "findings": [f.to_json() for f in findings],
    }
    lines = [f"{of}. {source}".strip()]
    lines += [f"{f.verdict:16s} {f.id:6s} {f.label}: {f.reason}" for f in findings]
    lines.append(", ".join(f"{len(ids)} {v}" for v, ids in groups.items()))
    _say(table, lines, json_output)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Folder to write; must be new or empty.")],
    group: Annotated[
        str, typer.Option(help="Compare two groups by a field: sex, margin, resection, diagnosis.")
    ] = "",
    db: Db = None,
    json_output: Json = False,
) -> None:
    """Write report.html, report.pdf and the figures as SVG: paper A's table from your own data.

    Example: sacroplan registry report outcomes-2025 --group margin
    """
    from sacroplan.registry.errors import RegistryError
    from sacroplan.registry.report import write

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RegistryError(f"{out} exists and is not empty; name a new folder.")
    with Bar("report", json_output) as progress:
        done = write(_open(db), out, group, progress)
    _say(done, [f"Open {out / 'report.html'}"], json_output)


@app.command("assess-ct")
def assess_ct(
    ct: Annotated[Path, typer.Argument(help="Follow-up CT: DICOM folder, NIfTI, NRRD or MHA.")],
    case: Annotated[Path | None, typer.Option(help="The planned case with its implant.")] = None,
    core: Annotated[
        Path | None, typer.Option(help="Without a case: the implant's solid core, STL in LPS mm.")
    ] = None,
    porous: Annotated[
        list[str] | None,
        typer.Option(help="Without a case: a porous layer as L5=file.stl; repeat it."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for pictures and assessment.json.")
    ] = None,
    pseudonym: Annotated[
        str, typer.Option(help="Store the findings for this patient, with --on.")
    ] = "",
    on: Annotated[str, typer.Option(help="Date of the CT, YYYY-MM-DD.")] = "",
    db: Db = None,
    who: Who = None,
    json_output: Json = False,
) -> None:
    """Measure gap and bone contact at every porous interface on a follow-up CT.

    Example: sacroplan registry assess-ct ct-6-months --case case7 --out ct6
    """
    from sacroplan.registry import assess

    with Bar("assess-ct", json_output) as progress:
        result = assess.assess(ct, case, core, porous or [], progress)
    if out is not None:
        assess.write(result, out)
    if pseudonym:
        assess.store(_open(db, who), pseudonym, on, result)
    lines = [f"! {d}" for d in result.cautions]
    lines += [
        f"{i.name}: grade {i.grade}, contact {i.contact_percent:.0f} %, gap "
        f"{'none' if i.gap_mm is None else f'{i.gap_mm:.2f} mm'}, "
        f"{'continuous trabeculae' if i.continuous else 'not continuous'}"
        for i in result.interfaces
    ]
    _say(result.to_json(), lines, json_output)


@app.command()
def synthetic(
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    patients: Annotated[int, typer.Option(min=1, help="How many.")] = 200,
    seed: Annotated[int, typer.Option(help="Another seed, another cohort.")] = 1,
    json_output: Json = False,
) -> None:
    """Write CSV files of an invented cohort, marked as synthetic, to try the registry with.

    Example: sacroplan registry synthetic tryout --patients 60
    """
    from sacroplan.registry import synthetic as maker

    files = maker.write(out, patients, seed)
    _say({"files": [str(f) for f in files]}, [f"Wrote {f}" for f in files], json_output)
