"""What surveys have found, kept beside the deltas that they read, and gone with the first of them that goes."""

from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from hashlib import sha256

from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import IntegrityError

from app.store.database import dialect_of
from app.store.subject import Subject
from app.store.tables import survey_inputs, surveys

KEYS_AT_ONCE = 500


class SurveyKeeping(Subject):
    """Records by key; merge_core checks what it gets back."""

    def get_surveys(self, keys: Collection[str]) -> dict[str, bytes]:
        """Those that are here."""
        found: dict[str, bytes] = {}
        with self._database.read() as connection:
            asked = sorted(keys)
            for start in range(0, len(asked), KEYS_AT_ONCE):
                some = asked[start : start + KEYS_AT_ONCE]
                rows = connection.execute(select(surveys.c.key, surveys.c.content).where(surveys.c.key.in_(some)))
                found |= {row.key: row.content for row in rows}
        return found

    def put_surveys(self, records: Mapping[str, bytes], inputs: Collection[str]) -> None:
        """Keep records about the blobs `inputs`; none where one of these is gone."""
        bundle = sha256("".join(sorted(inputs)).encode()).hexdigest()
        rows = [{"key": key, "bundle": bundle, "content": content} for key, content in sorted(records.items())]
        with suppress(IntegrityError), self._database.write() as connection:
            about = [{"bundle": bundle, "sha256": blob} for blob in sorted(inputs)]
            connection.execute(dialect_of(connection).insert(survey_inputs).on_conflict_do_nothing(), about)
            added = dialect_of(connection).insert(surveys)
            values = {"content": added.excluded.content, "bundle": bundle}
            connection.execute(added.on_conflict_do_update(index_elements=["key"], set_=values), rows)


class KeptSurveys:
    """The records of one build: merge_core's `SurveyRecords`."""

    def __init__(self, store: SurveyKeeping, inputs: Iterable[str]) -> None:
        self._store = store
        self._inputs = frozenset(inputs)

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Those that are here."""
        return self._store.get_surveys(keys)

    def put(self, records: Mapping[str, bytes]) -> None:
        """In place of earlier ones of the same key."""
        self._store.put_surveys(records, self._inputs)


def forget_surveys(connection: Connection, blob: str) -> None:
    """Forget every record that is about a blob, inside the caller's transaction."""
    bundles = list(connection.execute(select(survey_inputs.c.bundle).where(survey_inputs.c.sha256 == blob)).scalars())
    for table in (surveys, survey_inputs):
        connection.execute(delete(table).where(table.c.bundle.in_(bundles)))
