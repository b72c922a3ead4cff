"""The first schema: what arrives, who is imaged, the header index, jobs and sessions.

Types are spelled out and not imported from the models, so that this file keeps meaning what it meant when it was written.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
BY_CODE_POINT = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")
NUMBERS = sa.Text().with_variant(postgresql.ARRAY(sa.Double()), "postgresql")
PLACES = sa.Text().with_variant(postgresql.ARRAY(sa.SmallInteger()), "postgresql")
TEXTS = sa.Text().with_variant(postgresql.ARRAY(sa.Text()), "postgresql")

# What the models cannot say: indexes for searching text, on each database its own.
POSTGRESQL = (
    "CREATE EXTENSION IF NOT EXISTS pg_trgm",
    "CREATE INDEX ix_header_folded ON header (field_id, substr(folded, 1, 64))",
    "CREATE INDEX ix_header_words ON header USING gin (folded gin_trgm_ops)",
    "CREATE INDEX ix_group_column_words ON group_column USING gin (words gin_trgm_ops) WHERE words IS NOT NULL",
    "ALTER TABLE group_document ALTER COLUMN document SET STORAGE EXTERNAL",
    """DO $$ BEGIN
    ALTER TABLE group_column ALTER COLUMN numbers SET COMPRESSION lz4, ALTER COLUMN texts SET COMPRESSION lz4,
        ALTER COLUMN folded SET COMPRESSION lz4, ALTER COLUMN words SET COMPRESSION lz4;
    EXCEPTION WHEN feature_not_supported THEN NULL; END $$""",
)
SQLITE = (
    "CREATE INDEX ix_header_folded ON header (field_id, substr(folded, 1, 64))",
    "CREATE INDEX ix_group_column_words ON group_column (field_id) WHERE words IS NOT NULL",
    """CREATE VIRTUAL TABLE header_words USING fts5(folded, content='header', content_rowid='id', tokenize='trigram')""",
    """CREATE TRIGGER header_words_insert AFTER INSERT ON header WHEN new.id & 7 = 0
    BEGIN INSERT INTO header_words (rowid, folded) VALUES (new.id, new.folded); END""",
    """CREATE TRIGGER header_words_delete AFTER DELETE ON header WHEN old.id & 7 = 0
    BEGIN INSERT INTO header_words (header_words, rowid, folded) VALUES ('delete', old.id, old.folded); END""",
)


def upgrade() -> None:
    op.create_table(
        "arrival",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("is_folder", sa.Boolean(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_arrival")),
        sa.UniqueConstraint("path", name=op.f("uq_arrival_path")),
    )
    op.create_table(
        "batch",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("open_scans", sa.Integer(), nullable=False),
        sa.Column("deleting", sa.Boolean(), nullable=False),
        sa.Column("has_error", sa.Boolean(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("modified_at", MOMENT, nullable=False),
        sa.Column("file_count", sa.Integer(), nullable=False),
        sa.Column("done_count", sa.Integer(), nullable=False),
        sa.Column("image_count", sa.Integer(), nullable=False),
        sa.Column("error_count", sa.Integer(), nullable=False),
        sa.Column("notice_count", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_batch")),
        sa.UniqueConstraint("name", name=op.f("uq_batch_name")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_batch_status"), "batch", ["status"], unique=False)

    op.create_table(
        "claim",
        sa.Column("path_sha256", sa.LargeBinary(length=32), nullable=False),
        sa.Column("stamp", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("path_sha256", "stamp", name=op.f("pk_claim")),
    )
    op.create_table(
        "discard",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("offset", sa.BigInteger(), nullable=True),
        sa.Column("length", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_discard")),
    )
    op.create_table(
        "field",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("vr", sa.Text(), nullable=False),
        sa.Column("promoted", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_field")),
        sa.UniqueConstraint("path", name=op.f("uq_field_path")),
    )
    op.create_table(
        "group_column",
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("field_id", sa.Integer(), nullable=False),
        sa.Column("slot", sa.Integer(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.Column("number_min", sa.Double(), nullable=True),
        sa.Column("number_max", sa.Double(), nullable=True),
        sa.Column("text_min", BY_CODE_POINT, nullable=False),
        sa.Column("text_max", BY_CODE_POINT, nullable=False),
        sa.Column("words", BY_CODE_POINT, nullable=True),
        sa.Column("numbers", NUMBERS, nullable=True),
        sa.Column("texts", TEXTS, nullable=False),
        sa.Column("folded", TEXTS, nullable=True),
        sa.Column("places", PLACES, nullable=True),
        sa.PrimaryKeyConstraint("group_id", "field_id", "slot", name=op.f("pk_group_column")),
    )
    op.create_index(
        "ix_group_column_numbers",
        "group_column",
        ["field_id", "number_min", "number_max", "group_id"],
        unique=False,
        postgresql_where=sa.text("number_min IS NOT NULL"),
        sqlite_where=sa.text("number_min IS NOT NULL"),
    )
    op.create_index(
        "ix_group_column_texts", "group_column", ["field_id", "text_min", "text_max", "group_id"], unique=False
    )

    op.create_table(
        "group_document",
        sa.Column("group_id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("document", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", name=op.f("pk_group_document")),
    )
    op.create_table(
        "group_header",
        sa.Column("field_id", sa.Integer(), nullable=False),
        sa.Column("header_id", sa.BigInteger(), nullable=False),
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("field_id", "header_id", "group_id", name=op.f("pk_group_header")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_group_header_group_id"), "group_header", ["group_id"], unique=False)

    op.create_table(
        "header",
        sa.Column("id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("field_id", sa.Integer(), nullable=False),
        sa.Column("text", BY_CODE_POINT, nullable=True),
        sa.Column("folded", BY_CODE_POINT, nullable=False),
        sa.Column("number", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_header")),
    )
    op.create_index(
        "ix_header_number",
        "header",
        ["field_id", "number"],
        unique=False,
        postgresql_where=sa.text("number IS NOT NULL"),
        sqlite_where=sa.text("number IS NOT NULL"),
    )

    op.create_table(
        "job",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", JSON, nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", MOMENT, nullable=False),
        sa.Column("lease_until", MOMENT, nullable=True),
        sa.Column("worker", sa.Text(), nullable=True),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("started_at", MOMENT, nullable=True),
        sa.Column("finished_at", MOMENT, nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_job_batch_id"), "job", ["batch_id"], unique=False)
    op.create_index(
        "ix_job_open",
        "job",
        ["status", "due_at"],
        unique=False,
        postgresql_where=sa.text("status IN ('queued','running')"),
        sqlite_where=sa.text("status IN ('queued','running')"),
    )
    op.create_index("ix_job_status_id", "job", ["status", "id"], unique=False)

    op.create_table(
        "pack",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_pack")),
    )
    op.create_table(
        "patient",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("patient_id", sa.Text(), nullable=False),
        sa.Column("patient_name", sa.Text(), nullable=False),
        sa.Column("patient_birth_date", sa.Text(), nullable=False),
        sa.Column("patient_sex", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_patient")),
        sa.UniqueConstraint(
            "patient_id",
            "patient_name",
            "patient_birth_date",
            name=op.f("uq_patient_patient_id_patient_name_patient_birth_date"),
        ),
    )
    op.create_table(
        "promoted_number",
        sa.Column("field_id", sa.Integer(), nullable=False),
        sa.Column("number", sa.Double(), nullable=False),
        sa.Column("header_key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("field_id", "number", "header_key", name=op.f("pk_promoted_number")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "web_session",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.Column("expires_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_web_session")),
    )
    op.create_table(
        "worker",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("started_at", MOMENT, nullable=False),
        sa.Column("seen_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_worker")),
    )
    op.create_table(
        "header_group",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_header_group_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_header_group")),
        sqlite_autoincrement=True,
    )
    op.create_index(op.f("ix_header_group_batch_id"), "header_group", ["batch_id"], unique=False)

    op.create_table(
        "image",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("sop_instance_uid", sa.Text(), nullable=True),
        sa.Column("version", sa.SmallInteger(), nullable=False),
        sa.Column("series_id", BIG_ID, nullable=True),
        sa.Column("header_key", BIG_ID, nullable=True),
        sa.Column("instance_number", sa.BigInteger(), nullable=True),
        sa.Column("element_count", sa.Integer(), nullable=True),
        sa.Column("sha256", sa.LargeBinary(length=32), nullable=True),
        sa.Column("pack_id", BIG_ID, nullable=True),
        sa.Column("pack_offset", sa.BigInteger(), nullable=True),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("mtime_ns", sa.BigInteger(), nullable=True),
        sa.Column("pixel_offset", sa.BigInteger(), nullable=True),
        sa.Column("pixel_length", sa.BigInteger(), nullable=True),
        sa.Column("frame_table", sa.LargeBinary(), nullable=True),
        sa.Column("added_at", MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_image_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("header_key", name=op.f("uq_image_header_key")),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_image_batch_id_id", "image", ["batch_id", "id"], unique=False)
    op.create_index(
        "ix_image_open",
        "image",
        ["status", "id"],
        unique=False,
        postgresql_where=sa.text("status <> 'DONE'"),
        sqlite_where=sa.text("status <> 'DONE'"),
    )
    op.create_index("ix_image_sop_instance_uid_version", "image", ["sop_instance_uid", "version"], unique=True)

    op.create_table(
        "outcome",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=True),
        sa.Column("image_id", BIG_ID, nullable=True),
        sa.Column("other_image_id", BIG_ID, nullable=True),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_outcome_batch_id_batch")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_outcome")),
    )
    op.create_index("ix_outcome_batch_id_kind_id", "outcome", ["batch_id", "kind", "id"], unique=False)
    op.create_index(op.f("ix_outcome_image_id"), "outcome", ["image_id"], unique=False)
    op.create_index(op.f("ix_outcome_other_image_id"), "outcome", ["other_image_id"], unique=False)

    op.create_table(
        "study",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("study_instance_uid", sa.Text(), nullable=False),
        sa.Column("patient_key", BIG_ID, nullable=False),
        sa.Column("study_date", sa.Text(), nullable=False),
        sa.Column("study_time", sa.Text(), nullable=False),
        sa.Column("accession_number", sa.Text(), nullable=False),
        sa.Column("study_id", sa.Text(), nullable=False),
        sa.Column("study_description", sa.Text(), nullable=False),
        sa.Column("referring_physician_name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["patient_key"], ["patient.id"], name=op.f("fk_study_patient_key_patient")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_study")),
        sa.UniqueConstraint("study_instance_uid", name=op.f("uq_study_study_instance_uid")),
    )
    op.create_index(op.f("ix_study_accession_number"), "study", ["accession_number"], unique=False)
    op.create_index(op.f("ix_study_patient_key"), "study", ["patient_key"], unique=False)
    op.create_index(op.f("ix_study_study_date"), "study", ["study_date"], unique=False)

    op.create_table(
        "series",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("series_instance_uid", sa.Text(), nullable=False),
        sa.Column("study_key", BIG_ID, nullable=False),
        sa.Column("modality", sa.Text(), nullable=False),
        sa.Column("series_number", sa.Text(), nullable=False),
        sa.Column("series_description", sa.Text(), nullable=False),
        sa.Column("series_date", sa.Text(), nullable=False),
        sa.Column("series_time", sa.Text(), nullable=False),
        sa.Column("body_part_examined", sa.Text(), nullable=False),
        sa.Column("protocol_name", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["study_key"], ["study.id"], name=op.f("fk_series_study_key_study")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("series_instance_uid", "study_key", name=op.f("uq_series_series_instance_uid_study_key")),
    )
    op.create_index(op.f("ix_series_study_key"), "series", ["study_key"], unique=False)

    op.create_table(
        "group_series",
        sa.Column("group_id", sa.BigInteger(), nullable=False),
        sa.Column("series_id", BIG_ID, nullable=False),
        sa.Column("images", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_group_series_series_id_series")),
        sa.PrimaryKeyConstraint("group_id", "series_id", name=op.f("pk_group_series")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_group_series_series_id"), "group_series", ["series_id"], unique=False)
    for statement in {"postgresql": POSTGRESQL, "sqlite": SQLITE}[op.get_context().dialect.name]:
        op.execute(sa.text(statement.replace(":", r"\:")))


def downgrade() -> None:
    if op.get_context().dialect.name == "sqlite":
        op.execute("DROP TABLE header_words")
    op.drop_table("group_series")
    op.drop_table("series")
    op.drop_table("study")
    op.drop_table("outcome")
    op.drop_table("image")
    op.drop_table("header_group")
    op.drop_table("worker")
    op.drop_table("web_session")
    op.drop_table("promoted_number")
    op.drop_table("patient")
    op.drop_table("pack")
    op.drop_table("job")
    op.drop_table("header")
    op.drop_table("group_header")
    op.drop_table("group_document")
    op.drop_table("group_column")
    op.drop_table("field")
    op.drop_table("discard")
    op.drop_table("claim")
    op.drop_table("batch")
    op.drop_table("arrival")
