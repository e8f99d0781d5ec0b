"""The tables, one description for SQLite and PostgreSQL. A change here needs a migration beside it."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from app.store.columns import Document, Moment, Serial

NOT_OVER = "state IN ('planned', 'queued', 'running', 'done')"

metadata = MetaData()

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("scopes", Document, nullable=False),
    Column("namespaces", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
)

repos = Table(
    "repos",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("namespace", String(96), nullable=False),
    Column("name", String(96), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("private", Boolean, nullable=False),
    # Empty, `auto` or `manual`: whether others than the namespace's own must be let in before they read files.
    Column("gated", String(16), nullable=False, server_default=""),
    Column("head", String(40)),
    # The composition that was asked for last under this name: `main` is what it will be.
    Column("awaits", String(32)),
    Column("created_at", Moment, nullable=False),
    Column("updated_at", Moment, nullable=False),
    UniqueConstraint("namespace", "name"),
    sqlite_autoincrement=True,
)

commits = Table(
    "commits",
    metadata,
    Column("key", Serial, primary_key=True, autoincrement=True),
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), nullable=False),
    Column("id", String(40), nullable=False),
    Column("parent", String(40)),
    Column("message", Text, nullable=False),
    Column("author", String(200), nullable=False),
    Column("created_at", Moment, nullable=False),
    UniqueConstraint("repo_id", "id"),
)

# Names of commits beside `main`, which is the repo's head: `refs/heads/…`, `refs/tags/…`, `refs/pr/…`.
refs = Table(
    "refs",
    metadata,
    Column("repo_id", ForeignKey("repos.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(250), primary_key=True),
    Column("commit_id", String(40), nullable=False),
    Column("message", Text),
    Column("created_at", Moment, nullable=False),
)

blobs = Table(
    "blobs",
    metadata,
    Column("sha256", String(64), primary_key=True),
    Column("size", BigInteger, nullable=False),
    Column("created_at", Moment, nullable=False),
    # `arriving` until the bytes are in the store, `going` from when they may be gone; only `here` can be committed.
    Column("state", String(16), nullable=False, server_default="here"),
    Column("touched_at", Moment, nullable=False, server_default="0", index=True),
)

# Who has sent a blob's bytes: they may commit it before any repo they read has it. `pending` of the times that they
# have sent it no commit has followed yet; the bytes are kept for that until `expires_at`.
blob_owners = Table(
    "blob_owners",
    metadata,
    Column("sha256", ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("owner", String(32), primary_key=True),
    Column("pending", Integer, nullable=False, server_default="0"),
    Column("expires_at", Moment, nullable=False, server_default="0"),
)

# What git calls a blob's bytes: Hub clients compare small files by it.
git_hashes = Table(
    "git_hashes",
    metadata,
    Column("sha256", ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("oid", String(40), nullable=False),
)

# Blobs with a packed form of `stored` bytes; `is_whole` while the bytes have a file of their own beside it.
blob_packings = Table(
    "blob_packings",
    metadata,
    Column("sha256", ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("stored", BigInteger, nullable=False),
    Column("is_whole", Boolean, nullable=False, index=True),
)

# The blobs without which a packed one cannot be read.
blob_origins = Table(
    "blob_origins",
    metadata,
    Column("sha256", ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("origin", ForeignKey("blobs.sha256"), primary_key=True, index=True),
)

# What a job reads or has made: kept while it, or the finaliser that it belongs to, is open.
blob_holds = Table(
    "blob_holds",
    metadata,
    Column("sha256", ForeignKey("blobs.sha256", ondelete="CASCADE"), primary_key=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True, index=True),
)

files = Table(
    "files",
    metadata,
    Column("commit_key", ForeignKey("commits.key", ondelete="CASCADE"), primary_key=True),
    Column("path", String(1024), primary_key=True),
    Column("sha256", ForeignKey("blobs.sha256"), nullable=False, index=True),
    Column("size", BigInteger, nullable=False),
)

deltas = Table(
    "deltas",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("commit_key", ForeignKey("commits.key", ondelete="CASCADE"), nullable=False, unique=True),
    Column("base", String(1024)),
    Column("kind", String(16), nullable=False),
    Column("format", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text),
    Column("summary", Document, nullable=False),
    Column("created_at", Moment, nullable=False, index=True),
    # The base that the files fit, as it was found: its repo may be gone since.
    Column("base_repo", String(200), index=True),
    Column("base_commit", String(40)),
    Column("facts", Document),
    Column("by_tensor", Document),
)

# A full checkpoint whose tensors are known: `layout` is the hash of their names and shapes, `contents` that of all.
bases = Table(
    "bases",
    metadata,
    Column("commit_key", ForeignKey("commits.key", ondelete="CASCADE"), primary_key=True),
    Column("layout", String(64), nullable=False),
    Column("contents", String(64), nullable=False),
    Column("model_type", String(200)),
)

base_tensors = Table(
    "base_tensors",
    metadata,
    Column("commit_key", ForeignKey("bases.commit_key", ondelete="CASCADE"), primary_key=True),
    Column("position", Integer, primary_key=True),
    # A document, as PostgreSQL's texts hold no NUL and a file's names may.
    Column("name", Document, nullable=False),
    Column("dtype", String(16), nullable=False),
    Column("shape", Document, nullable=False),
    Column("sha256", String(64), nullable=False, index=True),
    # Where the bytes lie.
    Column("blob", String(64), nullable=False, index=True),
    Column("begin", BigInteger, nullable=False),
    Column("length", BigInteger, nullable=False),
)

# What surveys have found. Their inputs are told once for each bundle of records over the same blobs.
surveys = Table(
    "surveys",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("bundle", String(64), nullable=False, index=True),
    Column("content", LargeBinary, nullable=False),
)

survey_inputs = Table(
    "survey_inputs",
    metadata,
    Column("bundle", String(64), primary_key=True),
    Column("sha256", ForeignKey("blobs.sha256"), primary_key=True, index=True),
)

compositions = Table(
    "compositions",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(200), nullable=False, index=True),
    Column("recipe", Document, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("state", String(16), nullable=False),
    Column("plan", Document, nullable=False),
    Column("shard_count", Integer, nullable=False),
    Column("private", Boolean, nullable=False),
    Column("author", String(200), nullable=False),
    Column("job_id", String(32), nullable=False),
    Column("commit_id", String(40)),
    Column("error", Document),
    Column("created_at", Moment, nullable=False, index=True),
    Column("finished_at", Moment),
    # What its files will be, where that is known before they are built.
    Column("files", Document),
    # Nothing is built twice; what failed or was cancelled may be asked for again.
    Index("one_per_digest", "digest", unique=True, sqlite_where=text(NOT_OVER), postgresql_where=text(NOT_OVER)),
)

# Names beside its own under which a composition was asked for while it was under way.
composition_names = Table(
    "composition_names",
    metadata,
    Column("composition_id", ForeignKey("compositions.id", ondelete="CASCADE"), primary_key=True),
    Column("name", String(200), primary_key=True, index=True),
    Column("private", Boolean, nullable=False),
    Column("author", String(200), nullable=False),
)

jobs = Table(
    "jobs",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(32), nullable=False),
    Column("subject_id", String(256), nullable=False),
    Column("repo", String(200), nullable=False, index=True),
    Column("parent_id", ForeignKey("jobs.id", ondelete="CASCADE"), index=True),
    Column("state", String(16), nullable=False, index=True),
    # The fence: who holds the lease. A commit that names another value changes nothing.
    Column("token", String(32)),
    Column("payload", Document, nullable=False),
    Column("done", BigInteger, nullable=False),
    Column("total", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("crashes", Integer, nullable=False),
    Column("result", Document),
    Column("error", Document),
    Column("created_at", Moment, nullable=False, index=True),
    Column("started_at", Moment),
    Column("leased_at", Moment),
    Column("finished_at", Moment),
    # Bytes from the start of the attempt's file that can be read already, and where that file is in the data folder.
    Column("ready", BigInteger, nullable=False, server_default="0"),
    Column("place", String(500)),
)

events = Table(
    "events",
    metadata,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("job_id", ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(32), nullable=False),
    Column("data", Document, nullable=False),
    Column("created_at", Moment, nullable=False),
    Index("events_of_a_job", "job_id", "id"),
    sqlite_autoincrement=True,
)
