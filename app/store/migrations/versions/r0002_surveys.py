"""What surveys of deltas have found."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """The records, and the blobs that each bundle of them is about."""
    op.create_table(
        "surveys",
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_index(op.f("ix_surveys_bundle"), "surveys", ["bundle"], unique=False)
    op.create_table(
        "survey_inputs",
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"]),
        sa.PrimaryKeyConstraint("bundle", "sha256"),
    )
    op.create_index(op.f("ix_survey_inputs_sha256"), "survey_inputs", ["sha256"], unique=False)
