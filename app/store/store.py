"""The records: one door to the tables, whose subjects have a file each."""

from app.settings import Settings
from app.store.adoption import Adoption
from app.store.bases import BaseRecords
from app.store.blob_records import BlobRecords
from app.store.commits import CommitRecords
from app.store.composition_names import CompositionNames
from app.store.compositions import CompositionRecords
from app.store.database import Database
from app.store.deletion import Deletion
from app.store.deltas import DeltaRecords
from app.store.figures import Figures
from app.store.garbage import Garbage
from app.store.git_hashes import GitHashes
from app.store.jobs import JobRecords
from app.store.migrate import migrate
from app.store.moving import Moving
from app.store.packings import Packings
from app.store.publishing import Publishing
from app.store.pulls import Pulls
from app.store.refs import RefRecords
from app.store.repo_search import RepoSearch
from app.store.repos import RepoRecords
from app.store.surveys import SurveyKeeping
from app.store.tokens import TokenRecords
from app.store.unbuilt import UnbuiltRecords
from app.store.xorbs import XorbRecords


class Store(
    TokenRecords,
    RepoRecords,
    RepoSearch,
    CommitRecords,
    Publishing,
    RefRecords,
    BlobRecords,
    DeltaRecords,
    BaseRecords,
    SurveyKeeping,
    CompositionRecords,
    CompositionNames,
    UnbuiltRecords,
    JobRecords,
    Adoption,
    Figures,
    Deletion,
    Moving,
    Garbage,
    GitHashes,
    Packings,
    Pulls,
    XorbRecords,
):
    """Every subject's questions and changes, each a transaction of its own."""

    def __init__(self, database_url: str) -> None:
        super().__init__(Database(database_url))

    def migrate(self) -> None:
        """Bring the tables up to date; does nothing when they are."""
        migrate(self._database.engine)

    def close(self) -> None:
        """Close every connection."""
        self._database.close()


def open_store(settings: Settings) -> Store:
    """The store of these settings, its tables up to date."""
    store = Store(settings.database_url)
    store.migrate()
    return store
