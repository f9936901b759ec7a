"""The first version of the schema.

A migration is frozen: it spells out its tables instead of reading today's data dictionary.
"""

import sqlalchemy as sa
from alembic import op

from sacroplan.registry import audit

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

AUDITED = {
    "patient": ["id", "pseudonym", "sex", "synthetic", "deleted_at"],
    "tumour": [
        "id",
        "patient_id",
        "diagnosis",
        "upper_level",
        "diameter_mm",
        "metastatic",
        "radiotherapy",
        "chemotherapy",
        "deleted_at",
    ],
    "operation": [
        "id",
        "patient_id",
        "operated_on",
        "age_years",
        "resection",
        "approach",
        "margin",
        "blood_loss_ml",
        "duration_min",
        "case_id",
        "case_digest",
        "deleted_at",
    ],
    "construct": [
        "id",
        "operation_id",
        "kind",
        "screws",
        "rods",
        "porous_interfaces",
        "deleted_at",
    ],
    "complication": [
        "id",
        "operation_id",
        "kind",
        "occurred_on",
        "clavien",
        "henderson",
        "removed",
        "deleted_at",
    ],
    "visit": [
        "id",
        "patient_id",
        "visited_on",
        "state",
        "walking",
        "bladder",
        "bowel",
        "sexual",
        "deleted_at",
    ],
    "score": ["id", "visit_id", "instrument", "answers", "answered", "value", "deleted_at"],
    "finding": [
        "id",
        "patient_id",
        "imaged_on",
        "modality",
        "interface",
        "reader",
        "grade",
        "continuous",
        "contact_percent",
        "gap_mm",
        "deleted_at",
    ],
    "event": ["id", "patient_id", "kind", "occurred_on", "cause", "deleted_at"],
}
"""Every audited table and its columns."""


def upgrade() -> None:
    """Make all tables, the audit and its triggers."""
    op.create_table(
        "actor",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("who", sa.String(length=80), nullable=True),
        sa.CheckConstraint("id = 1", name="actor_single"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("changed_at", sa.String(length=20), nullable=False),
        sa.Column("who", sa.String(length=80), nullable=False),
        sa.Column("table_name", sa.String(length=20), nullable=False),
        sa.Column("row_id", sa.Integer(), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "patient",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pseudonym", sa.String(length=16), nullable=False),
        sa.Column("sex", sa.String(length=40), nullable=True),
        sa.Column("synthetic", sa.SmallInteger(), nullable=False),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "length(pseudonym) BETWEEN 3 AND 13 AND pseudonym = upper(pseudonym) AND pseudonym LIKE '%-%' AND pseudonym NOT LIKE '%-%-%' AND pseudonym NOT LIKE '% %'",
            name="patient_pseudonym",
        ),
        sa.CheckConstraint("sex = 'F' OR sex = 'M' OR sex = 'X'", name="patient_sex"),
        sa.CheckConstraint("synthetic = 0 OR synthetic = 1", name="patient_synthetic"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "patient_unique",
        "patient",
        ["pseudonym"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "event",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("occurred_on", sa.Date(), nullable=False),
        sa.Column("cause", sa.String(length=40), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint("cause = 'DOD' OR cause = 'DOC'", name="event_cause"),
        sa.CheckConstraint("cause IS NULL OR kind = 'death'", name="event_cause_of_death"),
        sa.CheckConstraint(
            "kind = 'death' OR kind = 'local_recurrence' OR kind = 'metastasis' OR kind = 'implant_removal' OR kind = 'reoperation' OR kind = 'lost'",
            name="event_kind",
        ),
        sa.CheckConstraint(
            "occurred_on >= '1980-01-01' AND occurred_on <= '2199-12-31'", name="event_occurred_on"
        ),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name="event_patient"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "event_one_death",
        "event",
        ["patient_id"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL AND kind = 'death'"),
        postgresql_where=sa.text("deleted_at IS NULL AND kind = 'death'"),
    )
    op.create_index(
        "event_unique",
        "event",
        ["patient_id", "kind", "occurred_on"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "finding",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Integer(), nullable=False),
        sa.Column("imaged_on", sa.Date(), nullable=False),
        sa.Column("modality", sa.String(length=40), nullable=False),
        sa.Column("interface", sa.String(length=40), nullable=False),
        sa.Column("reader", sa.String(length=40), nullable=False),
        sa.Column("grade", sa.Integer(), nullable=True),
        sa.Column("continuous", sa.SmallInteger(), nullable=True),
        sa.Column("contact_percent", sa.Float(), nullable=True),
        sa.Column("gap_mm", sa.Float(), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "imaged_on >= '1980-01-01' AND imaged_on <= '2199-12-31'", name="finding_imaged_on"
        ),
        sa.CheckConstraint(
            "interface = 'L5' OR interface = 'wing_left' OR interface = 'wing_right' OR interface = 'all'",
            name="finding_interface",
        ),
        sa.CheckConstraint("modality = 'CT' OR modality = 'XR'", name="finding_modality"),
        sa.CheckConstraint("reader = 'person' OR reader = 'assess-ct'", name="finding_reader"),
        sa.CheckConstraint(
            "contact_percent >= 0 AND contact_percent <= 100", name="finding_contact_percent"
        ),
        sa.CheckConstraint("continuous = 0 OR continuous = 1", name="finding_continuous"),
        sa.CheckConstraint("gap_mm >= 0", name="finding_gap_mm"),
        sa.CheckConstraint("grade >= 0 AND grade <= 3", name="finding_grade"),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name="finding_patient"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "finding_unique",
        "finding",
        ["patient_id", "imaged_on", "interface", "reader"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "operation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Integer(), nullable=False),
        sa.Column("operated_on", sa.Date(), nullable=False),
        sa.Column("age_years", sa.Float(), nullable=True),
        sa.Column("resection", sa.String(length=40), nullable=False),
        sa.Column("approach", sa.String(length=40), nullable=True),
        sa.Column("margin", sa.String(length=40), nullable=True),
        sa.Column("blood_loss_ml", sa.Float(), nullable=True),
        sa.Column("duration_min", sa.Float(), nullable=True),
        sa.Column("case_id", sa.String(length=40), nullable=True),
        sa.Column("case_digest", sa.String(length=64), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "approach = 'posterior' OR approach = 'combined' OR approach = 'other'",
            name="operation_approach",
        ),
        sa.CheckConstraint(
            "margin = 'wide' OR margin = 'marginal' OR margin = 'intralesional'",
            name="operation_margin",
        ),
        sa.CheckConstraint(
            "operated_on >= '1980-01-01' AND operated_on <= '2199-12-31'",
            name="operation_operated_on",
        ),
        sa.CheckConstraint(
            "resection = 'total' OR resection = 'hemi' OR resection = 'partial' OR resection = 'none'",
            name="operation_resection",
        ),
        sa.CheckConstraint("age_years >= 0 AND age_years <= 120", name="operation_age_years"),
        sa.CheckConstraint("blood_loss_ml >= 0", name="operation_blood_loss_ml"),
        sa.CheckConstraint(
            "case_digest IS NULL OR case_id IS NOT NULL", name="operation_case_with_digest"
        ),
        sa.CheckConstraint("duration_min >= 1", name="operation_duration_min"),
        sa.CheckConstraint(
            "length(case_digest) = 64 AND case_digest = lower(case_digest)",
            name="operation_case_digest",
        ),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name="operation_patient"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "operation_unique",
        "operation",
        ["patient_id", "operated_on"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "tumour",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Integer(), nullable=False),
        sa.Column("diagnosis", sa.String(length=40), nullable=False),
        sa.Column("upper_level", sa.String(length=40), nullable=True),
        sa.Column("diameter_mm", sa.Float(), nullable=True),
        sa.Column("metastatic", sa.SmallInteger(), nullable=True),
        sa.Column("radiotherapy", sa.SmallInteger(), nullable=True),
        sa.Column("chemotherapy", sa.SmallInteger(), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "diagnosis = 'chordoma' OR diagnosis = 'osteosarcoma' OR diagnosis = 'chondrosarcoma' OR diagnosis = 'ups' OR diagnosis = 'ewing' OR diagnosis = 'mpnst' OR diagnosis = 'gct' OR diagnosis = 'metastasis' OR diagnosis = 'other'",
            name="tumour_diagnosis",
        ),
        sa.CheckConstraint(
            "upper_level = 'L5' OR upper_level = 'S1' OR upper_level = 'S2' OR upper_level = 'S3' OR upper_level = 'S4' OR upper_level = 'S5'",
            name="tumour_upper_level",
        ),
        sa.CheckConstraint("chemotherapy = 0 OR chemotherapy = 1", name="tumour_chemotherapy"),
        sa.CheckConstraint("diameter_mm >= 0", name="tumour_diameter_mm"),
        sa.CheckConstraint("metastatic = 0 OR metastatic = 1", name="tumour_metastatic"),
        sa.CheckConstraint("radiotherapy = 0 OR radiotherapy = 1", name="tumour_radiotherapy"),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name="tumour_patient"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "tumour_unique",
        "tumour",
        ["patient_id"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "visit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("patient_id", sa.Integer(), nullable=False),
        sa.Column("visited_on", sa.Date(), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=True),
        sa.Column("walking", sa.String(length=40), nullable=True),
        sa.Column("bladder", sa.String(length=40), nullable=True),
        sa.Column("bowel", sa.String(length=40), nullable=True),
        sa.Column("sexual", sa.String(length=40), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "bladder = 'normal' OR bladder = 'trained' OR bladder = 'catheter' OR bladder = 'lost'",
            name="visit_bladder",
        ),
        sa.CheckConstraint(
            "bowel = 'normal' OR bowel = 'trained' OR bowel = 'stoma' OR bowel = 'lost'",
            name="visit_bowel",
        ),
        sa.CheckConstraint(
            "sexual = 'normal' OR sexual = 'reduced' OR sexual = 'lost' OR sexual = 'untold'",
            name="visit_sexual",
        ),
        sa.CheckConstraint("state = 'NED' OR state = 'AWD'", name="visit_state"),
        sa.CheckConstraint(
            "visited_on >= '1980-01-01' AND visited_on <= '2199-12-31'", name="visit_visited_on"
        ),
        sa.CheckConstraint(
            "walking = 'unaided' OR walking = 'aid' OR walking = 'home' OR walking = 'none'",
            name="visit_walking",
        ),
        sa.ForeignKeyConstraint(["patient_id"], ["patient.id"], name="visit_patient"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "visit_unique",
        "visit",
        ["patient_id", "visited_on"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "complication",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operation_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("occurred_on", sa.Date(), nullable=False),
        sa.Column("clavien", sa.String(length=40), nullable=True),
        sa.Column("henderson", sa.String(length=40), nullable=True),
        sa.Column("removed", sa.SmallInteger(), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "clavien = 'I' OR clavien = 'II' OR clavien = 'IIIa' OR clavien = 'IIIb' OR clavien = 'IVa' OR clavien = 'IVb' OR clavien = 'V'",
            name="complication_clavien",
        ),
        sa.CheckConstraint(
            "henderson = '1' OR henderson = '2' OR henderson = '3' OR henderson = '4' OR henderson = '5' OR henderson = '6a' OR henderson = '6b'",
            name="complication_henderson",
        ),
        sa.CheckConstraint(
            "kind = 'wound' OR kind = 'deep_infection' OR kind = 'csf_leak' OR kind = 'haemorrhage' OR kind = 'vascular' OR kind = 'bowel' OR kind = 'thrombosis' OR kind = 'loosening' OR kind = 'breakage' OR kind = 'recurrence' OR kind = 'other'",
            name="complication_kind",
        ),
        sa.CheckConstraint(
            "occurred_on >= '1980-01-01' AND occurred_on <= '2199-12-31'",
            name="complication_occurred_on",
        ),
        sa.CheckConstraint("removed = 0 OR removed = 1", name="complication_removed"),
        sa.ForeignKeyConstraint(["operation_id"], ["operation.id"], name="complication_operation"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "complication_unique",
        "complication",
        ["operation_id", "kind", "occurred_on"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "construct",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("operation_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=40), nullable=False),
        sa.Column("screws", sa.Integer(), nullable=True),
        sa.Column("rods", sa.Integer(), nullable=True),
        sa.Column("porous_interfaces", sa.Integer(), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "kind = 'printed' OR kind = 'rods' OR kind = 'fibula' OR kind = 'femur' OR kind = 'other'",
            name="construct_kind",
        ),
        sa.CheckConstraint(
            "porous_interfaces >= 0 AND porous_interfaces <= 9", name="construct_porous_interfaces"
        ),
        sa.CheckConstraint("rods >= 0", name="construct_rods"),
        sa.CheckConstraint("screws >= 0", name="construct_screws"),
        sa.ForeignKeyConstraint(["operation_id"], ["operation.id"], name="construct_operation"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "construct_unique",
        "construct",
        ["operation_id", "kind"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.create_table(
        "score",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("visit_id", sa.Integer(), nullable=False),
        sa.Column("instrument", sa.String(length=40), nullable=False),
        sa.Column("answers", sa.String(length=120), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("value", sa.Float(), nullable=True),
        sa.Column("deleted_at", sa.String(length=20), nullable=True),
        sa.CheckConstraint(
            "instrument = 'vas' OR instrument = 'msts93' OR instrument = 'odi' OR instrument = 'tess' OR instrument = 'eq5d'",
            name="score_instrument",
        ),
        sa.CheckConstraint(
            "value IS NULL OR (instrument = 'vas' AND value <= 10) OR (instrument = 'msts93' AND value <= 30) OR (instrument = 'odi' AND value <= 100) OR (instrument = 'tess' AND value <= 100)",
            name="score_scale",
        ),
        sa.CheckConstraint("answered >= 0 AND answered <= 30", name="score_answered"),
        sa.CheckConstraint("value >= 0 AND value <= 100", name="score_value"),
        sa.ForeignKeyConstraint(["visit_id"], ["visit.id"], name="score_visit"),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(
        "score_unique",
        "score",
        ["visit_id", "instrument"],
        unique=True,
        sqlite_where=sa.text("deleted_at IS NULL"),
        postgresql_where=sa.text("deleted_at IS NULL"),
    )
    op.execute("INSERT INTO actor (id, who) VALUES (1, NULL)")
    dialect = op.get_bind().dialect.name
    for statement in audit.guard(dialect):
        op.execute(statement)
    for name, columns in AUDITED.items():
        for statement in audit.statements(dialect, name, columns):
            op.execute(statement)
