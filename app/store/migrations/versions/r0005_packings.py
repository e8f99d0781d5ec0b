"""Which blobs are packed, and against which."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Nothing is packed yet."""
    op.create_table(
        "blob_packings",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("stored", sa.BigInteger(), nullable=False),
        sa.Column("is_whole", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256"),
    )
    op.create_index(op.f("ix_blob_packings_is_whole"), "blob_packings", ["is_whole"], unique=False)
    op.create_table(
        "blob_origins",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("origin", sa.String(length=64), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["origin"], ["blobs.sha256"]),
        sa.PrimaryKeyConstraint("sha256", "origin"),
    )
    op.create_index(op.f("ix_blob_origins_origin"), "blob_origins", ["origin"], unique=False)
