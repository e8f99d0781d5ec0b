"""What a service that has its records and blobs to itself clears up before it starts."""

from collections.abc import Iterator
from pathlib import Path

from app.settings import Settings
from app.store.blobs import Blobs
from app.store.packed_shelf import PACKED
from app.store.store import Store

DIGEST_LENGTH = 64


def clear_up(settings: Settings, store: Store) -> None:
    """Give up uploads that were cut off, and remove bytes of which no record says anything.

    A power cut can undo a record that did not wait for the disk, and leave the bytes. Does nothing where another
    machine may be at work; removes nothing but from the data folder's own blobs, which nobody else writes to.
    """
    if not settings.database_url.startswith("sqlite"):
        return
    store.abandon_arrivals()
    own = Settings.from_environment({}, data=settings.data)
    if (settings.database_url, settings.blob_url) == (own.database_url, own.blob_url):
        blobs = Blobs(settings)
        for digest in store.unrecorded_blobs(_digests(settings.data / "blobs")):
            blobs.delete(digest)


def _digests(folder: Path) -> Iterator[str]:
    """Of plain blobs and of packed ones."""
    names = (path.name.removesuffix(PACKED) for path in folder.glob("*/*"))
    return (name for name in names if len(name) == DIGEST_LENGTH)
