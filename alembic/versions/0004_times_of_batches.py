"""When a batch arrived, was begun and done, so that its timeline outlives its jobs.

Types are spelled out and not imported from the models, so that this file keeps meaning what it meant when it was written.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

MOMENT = sa.BigInteger().with_variant(sa.DateTime(timezone=True), "postgresql")


def upgrade() -> None:
    for name in ("arrived_at", "began_at", "done_at"):
        op.add_column("batch", sa.Column(name, MOMENT, nullable=True))


def downgrade() -> None:
    for name in ("arrived_at", "began_at", "done_at"):
        op.drop_column("batch", name)
