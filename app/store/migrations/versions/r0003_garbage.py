"""Which bytes are on their way in or out, who still needs them, and by which names a build is awaited."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Every blob so far is here; what was sent and never committed waits no longer."""
    op.add_column("blobs", sa.Column("state", sa.String(length=16), nullable=False, server_default="here"))
    op.add_column("blobs", sa.Column("touched_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index(op.f("ix_blobs_touched_at"), "blobs", ["touched_at"], unique=False)
    op.add_column("blob_owners", sa.Column("pending", sa.Integer(), nullable=False, server_default="0"))
    op.add_column("blob_owners", sa.Column("expires_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_table(
        "blob_holds",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256", "job_id"),
    )
    op.create_index(op.f("ix_blob_holds_job_id"), "blob_holds", ["job_id"], unique=False)
    op.create_table(
        "composition_names",
        sa.Column("composition_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("private", sa.Boolean(), nullable=False),
        sa.Column("author", sa.String(length=200), nullable=False),
        sa.ForeignKeyConstraint(["composition_id"], ["compositions.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("composition_id", "name"),
    )
    op.create_index(op.f("ix_composition_names_name"), "composition_names", ["name"], unique=False)
