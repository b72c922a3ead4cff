"""Uploads: who sent what, and where the files lie that are not imported yet.

Types are spelled out and not imported from the models, so that this file keeps meaning what it meant when it was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.create_table(
        "upload",
        sa.Column("id", BIG_ID, nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("joined", sa.Boolean(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("file_count", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("begun_at", MOMENT, nullable=False),
        sa.Column("at", MOMENT, nullable=False),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_upload_batch_id_batch"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_upload")),
        sa.UniqueConstraint("folder", name=op.f("uq_upload_folder")),
    )
    op.create_index(op.f("ix_upload_batch_id"), "upload", ["batch_id"])
    op.add_column("image", sa.Column("place", sa.Text(), nullable=True))
    op.add_column("outcome", sa.Column("place", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("outcome", "place")
    op.drop_column("image", "place")
    op.drop_table("upload")
