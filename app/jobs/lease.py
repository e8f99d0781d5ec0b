"""One hold on one job, as the process at work sees it."""

import time

from app.store.job_rows import LeaseLostError
from app.store.records import Job, Ready
from app.store.store import Store

INTERVAL_S = 0.25  # so that a cancel is seen within a second, and SQL is not asked at every tensor


class Lease:
    """A job with the token that says it is ours, and how far it is."""

    def __init__(self, store: Store, job: Job, token: str) -> None:
        self.store = store
        self.job = job
        self.token = token
        self._told_at = self._asked_at = time.monotonic()
        self._lost = False

    def progress(self, done: int, total: int, ready: Ready | None = None) -> None:
        """Tell how far the job is; most calls do nothing. `total` is scaled to the job's own size in bytes."""
        if time.monotonic() - self._told_at >= INTERVAL_S:
            self.tell(done, total, ready)

    def tell(self, done: int, total: int, ready: Ready | None = None) -> None:
        """The same, at once."""
        whole = self.job.total or total
        share = done / total if total else 1.0
        try:
            self.store.progress(self.job.id, self.token, min(int(whole * share), whole), whole, ready)
        except LeaseLostError:
            self._lost = True
        self._told_at = self._asked_at = time.monotonic()

    def lost(self) -> bool:
        """True when the job was cancelled or taken over, at most a quarter of a second after it was."""
        if not self._lost and time.monotonic() - self._asked_at >= INTERVAL_S:
            self._lost = not self.store.holds(self.job.id, self.token)
            self._asked_at = time.monotonic()
        return self._lost
