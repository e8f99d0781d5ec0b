"""The tables of what Xet clients send, beside those of `app.store.tables`."""

from sqlalchemy import Column, ForeignKey, Integer, String, Table

from app.store.columns import Moment
from app.store.tables import metadata

# Runs of compressed chunks as Xet clients send them, kept while clients may still name them: each is a blob.
xorbs = Table(
    "xorbs",
    metadata,
    Column("hash", String(64), primary_key=True),
    Column("sha256", ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("touched_at", Moment, nullable=False, index=True),
)

# Who has sent a xorb: they may name it in a file's description.
xorb_owners = Table(
    "xorb_owners",
    metadata,
    Column("hash", ForeignKey("xorbs.hash", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(32), primary_key=True),
)

# Which chunks of a xorb, `first` up to `stop`, are in a file: who may read that file may name them too.
xorb_files = Table(
    "xorb_files",
    metadata,
    Column("hash", ForeignKey("xorbs.hash", ondelete="CASCADE"), primary_key=True),
    Column("sha256", ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True, index=True),
    Column("first", Integer, primary_key=True, autoincrement=False),
    Column("stop", Integer, primary_key=True, autoincrement=False),
)
