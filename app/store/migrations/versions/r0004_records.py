"""The tensors of bases by their hashes, and what deltas are of them."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

KEY = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """What was ingested before keeps its record, and has no base until it is looked at again."""
    op.add_column("deltas", sa.Column("base_repo", sa.String(length=200), nullable=True))
    op.add_column("deltas", sa.Column("base_commit", sa.String(length=40), nullable=True))
    op.add_column("deltas", sa.Column("facts", sa.JSON(), nullable=True))
    op.add_column("deltas", sa.Column("by_tensor", sa.JSON(), nullable=True))
    op.create_index(op.f("ix_deltas_base_repo"), "deltas", ["base_repo"], unique=False)
    op.create_table(
        "bases",
        sa.Column("commit_key", KEY, nullable=False),
        sa.Column("layout", sa.String(length=64), nullable=False),
        sa.Column("contents", sa.String(length=64), nullable=False),
        sa.Column("model_type", sa.String(length=200), nullable=True),
        sa.ForeignKeyConstraint(["commit_key"], ["commits.key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("commit_key"),
    )
    op.create_table(
        "base_tensors",
        sa.Column("commit_key", KEY, nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("name", sa.JSON(), nullable=False),
        sa.Column("dtype", sa.String(length=16), nullable=False),
        sa.Column("shape", sa.JSON(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("blob", sa.String(length=64), nullable=False),
        sa.Column("begin", sa.BigInteger(), nullable=False),
        sa.Column("length", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["commit_key"], ["bases.commit_key"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("commit_key", "position"),
    )
    op.create_index(op.f("ix_base_tensors_sha256"), "base_tensors", ["sha256"], unique=False)
    op.create_index(op.f("ix_base_tensors_blob"), "base_tensors", ["blob"], unique=False)
