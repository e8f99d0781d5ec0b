"""A survey's result is found by the other shards, and by the next composition of the same deltas."""

from pathlib import Path

import pytest
from sqlalchemy import create_engine, text

from merge_core.execute import execute
from tests.app.jobs.kitchen import TENSORS, Kitchen

TIES = {"name": "ties", "density": 0.25}


class Writes:
    """Counts the records that surveys leave, whoever writes them."""

    def __init__(self, place: Kitchen) -> None:
        self._engine = create_engine(place.settings.database_url)
        with self._engine.begin() as connection:
            connection.execute(text("CREATE TABLE writes (key TEXT)"))
            for event in ("INSERT", "UPDATE"):
                body = "BEGIN INSERT INTO writes VALUES (new.key); END"
                connection.execute(text(f"CREATE TRIGGER on_{event} AFTER {event} ON surveys {body}"))

    def count(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(text("SELECT count(*) FROM writes")).scalar_one())

    def close(self) -> None:
        self._engine.dispose()


@pytest.mark.parametrize(("scope", "surveys"), [("model", 1), ("tensor", TENSORS)])
def test_the_second_composition_of_the_same_deltas_does_not_survey(
    place: Kitchen, tmp_path: Path, scope: str, surveys: int
) -> None:
    writes = Writes(place)
    method = TIES | {"scope": scope}
    place.start("worker")
    place.wait_done(place.compose(method=method))
    assert writes.count() == surveys, "once, though there are as many shard jobs as tensors"
    again = place.wait_done(place.compose("soups/again", scale=0.5, method=method))
    assert writes.count() == surveys
    place.wait_done(place.compose("soups/other", method=method | {"density": 0.3}))
    assert writes.count() == 2 * surveys
    writes.close()
    repo = place.store.require_repo(again.name)
    built = {entry.path: entry for entry in place.store.tree(place.store.head(repo))}
    alone = {path.name: path.read_bytes() for path in execute(place.plan(0.5, method), tmp_path / "alone")}
    assert {name: place.blobs.local_path(built[name].sha256).read_bytes() for name in alone} == alone
