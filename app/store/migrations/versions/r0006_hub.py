"""What speaking the Hub protocol needs: branches and tags, gated repos, git's hashes, xorbs, unbuilt files."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NOT_OVER = sa.text("state IN ('planned', 'queued', 'running', 'done')")


def upgrade() -> None:
    """No repo has more than its head yet, and none is gated."""
    op.add_column("repos", sa.Column("gated", sa.String(length=16), server_default="", nullable=False))
    op.create_table(
        "refs",
        sa.Column("repo_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("name", sa.String(length=250), nullable=False),
        sa.Column("commit_id", sa.String(length=40), nullable=False),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["repo_id"], ["repos.id"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("repo_id", "name"),
    )
    op.create_table(
        "git_hashes",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("oid", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("sha256"),
    )
    _add_xorbs()
    op.add_column("compositions", sa.Column("files", sa.JSON(none_as_null=True), nullable=True))
    op.drop_index("one_per_digest", table_name="compositions")
    op.create_index(
        "one_per_digest",
        "compositions",
        ["digest"],
        unique=True,
        sqlite_where=NOT_OVER,
        postgresql_where=NOT_OVER,
    )
    op.add_column("jobs", sa.Column("ready", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("jobs", sa.Column("place", sa.String(length=500), nullable=True))


def _add_xorbs() -> None:
    op.create_table(
        "xorbs",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"]),
        sa.PrimaryKeyConstraint("hash"),
    )
    op.create_index(op.f("ix_xorbs_sha256"), "xorbs", ["sha256"], unique=False)
    op.create_index(op.f("ix_xorbs_touched_at"), "xorbs", ["touched_at"], unique=False)
    op.create_table(
        "xorb_owners",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("owner", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["hash"], ["xorbs.hash"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", "owner"),
    )
    op.add_column("repos", sa.Column("awaits", sa.String(length=32), nullable=True))
    op.create_table(
        "xorb_files",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("first", sa.Integer(), nullable=False),
        sa.Column("stop", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["hash"], ["xorbs.hash"], ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["sha256"], ["blobs.sha256"], ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("hash", "sha256", "first", "stop"),
    )
    op.create_index(op.f("ix_xorb_files_sha256"), "xorb_files", ["sha256"], unique=False)
