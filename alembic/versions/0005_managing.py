"""What the settings pages manage: deletions that can be taken back, clean-ups, sessions, samples, wishes to the watcher.

Types are spelled out and not imported from the models, so that this file keeps meaning what it meant when it was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

BIG_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    op.add_column("batch", sa.Column("delete_at", MOMENT, nullable=True))
    op.create_index("ix_batch_created_at", "batch", ["created_at"])
    leaving = sa.text("delete_at IS NOT NULL")
    op.create_index("ix_batch_delete_at", "batch", ["delete_at"], postgresql_where=leaving, sqlite_where=leaving)
    op.create_table(
        "cleanup",
        sa.Column("batch_id", BIG_ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("asked_at", MOMENT, nullable=False),
        sa.Column("ended_at", MOMENT, nullable=True),
        sa.Column("automatic", sa.Boolean(), nullable=False),
        sa.Column("files", sa.Integer(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("kept", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch_id"], ["batch.id"], name=op.f("fk_cleanup_batch_id_batch"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("batch_id", name=op.f("pk_cleanup")),
    )
    op.create_index("ix_cleanup_status", "cleanup", ["status"])
    op.create_table(
        "sample",
        sa.Column("at", MOMENT, autoincrement=False, nullable=False),
        sa.Column("queued", sa.Integer(), nullable=False),
        sa.Column("running", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("workers", sa.Integer(), nullable=False),
        sa.Column("images", sa.BigInteger(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("free", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("at", name=op.f("pk_sample")),
    )
    op.create_table(
        "watcher_wish",
        sa.Column("id", BIG_ID, autoincrement=False, nullable=False),
        sa.Column("rests", sa.Boolean(), nullable=False),
        sa.Column("rescan_at", MOMENT, nullable=True),
        sa.Column("changed_at", MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_watcher_wish")),
    )
    op.add_column("worker", sa.Column("memory", sa.BigInteger(), nullable=True))
    op.add_column("web_session", sa.Column("address", sa.Text(), server_default="", nullable=False))
    op.add_column("web_session", sa.Column("browser", sa.Text(), server_default="", nullable=False))
    op.add_column("web_session", sa.Column("seen_at", MOMENT, nullable=True))


def downgrade() -> None:
    for name in ("seen_at", "browser", "address"):
        op.drop_column("web_session", name)
    op.drop_column("worker", "memory")
    op.drop_table("watcher_wish")
    op.drop_table("sample")
    op.drop_index("ix_cleanup_status", "cleanup")
    op.drop_table("cleanup")
    op.drop_index("ix_batch_delete_at", "batch")
    op.drop_index("ix_batch_created_at", "batch")
    op.drop_column("batch", "delete_at")
