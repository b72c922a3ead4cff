"""Saved searches, labels, and images by the time they were added.

Types are spelled out and not imported from the models, so that this file keeps meaning what it meant when it was written.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
JSON = sa.JSON().with_variant(postgresql.JSONB(), "postgresql")
MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "saved_search",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("query", sa.Text(), nullable=False),
        sa.Column("level", sa.Text(), nullable=False),
        sa.Column("columns", JSON, nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_saved_search")),
        sa.UniqueConstraint("name", name=op.f("uq_saved_search_name")),
    )
    op.create_table(
        "label",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("folded", sa.Text(), nullable=False),
        sa.Column("created_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label")),
        sa.UniqueConstraint("name", name=op.f("uq_label_name")),
        sa.UniqueConstraint("folded", name=op.f("uq_label_folded")),
    )
    targets = ("batch", "study", "series", "image")
    op.create_table(
        "label_link",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("label_id", BIG_ID, nullable=False),
        *(sa.Column(f"{target}_id", BIG_ID, nullable=True) for target in targets),
        sa.CheckConstraint(
            "CASE WHEN batch_id IS NULL THEN 0 ELSE 1 END + CASE WHEN study_id IS NULL THEN 0 ELSE 1 END"
            " + CASE WHEN series_id IS NULL THEN 0 ELSE 1 END + CASE WHEN image_id IS NULL THEN 0 ELSE 1 END = 1",
            name=op.f("ck_label_link_one_target"),
        ),
        *(
            sa.ForeignKeyConstraint([f"{name}_id"], [f"{name}.id"], name=op.f(f"fk_label_link_{name}_id_{name}"), ondelete="CASCADE")
            for name in ("label", *targets)
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_label_link")),
    )
    op.create_index(op.f("ix_label_link_label_id"), "label_link", ["label_id"], unique=False)
    for target in targets:
        op.create_index(f"ix_label_link_{target}_id", "label_link", [f"{target}_id", "label_id"], unique=True)
    op.create_index("ix_image_added_at_header_key", "image", ["added_at", "header_key"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_image_added_at_header_key", table_name="image")
    op.drop_table("label_link")
    op.drop_table("label")
    op.drop_table("saved_search")
