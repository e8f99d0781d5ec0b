"""Survey results in a folder, and what tells whether a file on this machine is the one that they are about."""

import time
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path

from merge_core.sources import Source
from merge_core.survey_records import MOST_BYTES

SETTLED_NS = 2_000_000_000
"""A file changed later than so long ago may change again without another time to show for it."""


class FolderSurveys:
    """merge_core's `SurveyRecords`: a file for each, complete or not there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, keys: Collection[str]) -> Mapping[str, bytes]:
        """Those that are here and not too large to be one."""
        files = {key: self._folder / key for key in keys}
        there = {key: file for key, file in files.items() if file.is_file() and file.stat().st_size <= 2 * MOST_BYTES}
        return {key: file.read_bytes() for key, file in there.items()}

    def put(self, records: Mapping[str, bytes]) -> None:
        """In place of earlier ones of the same key."""
        self._folder.mkdir(parents=True, exist_ok=True)
        for key, record in records.items():
            partial = self._folder / f".{key}.{time.monotonic_ns()}.partial"
            try:
                partial.write_bytes(record)
                partial.replace(self._folder / key)
            finally:
                partial.unlink(missing_ok=True)


def marked(source: Source) -> Source:
    """The source with what the disk says of each file: any write to it shows in the time of its last change."""
    newest = time.time_ns() - SETTLED_NS
    facts = {path: file.stat() for path, file in source.files.items()}
    marks = {
        path: f"{fact.st_dev}:{fact.st_ino}:{fact.st_size}:{fact.st_mtime_ns}:{fact.st_ctime_ns}"
        for path, fact in facts.items()
        if fact.st_ctime_ns < newest
    }
    return replace(source, marks=marks)
