"""Where bytes become deltas: one reader for each format, recognised by file names and config."""

from merge_core.formats.artefact import Artefact
from merge_core.formats.inspection import Inspection, check_file, inspect
from merge_core.formats.reading import READERS, read

__all__ = ["READERS", "Artefact", "Inspection", "check_file", "inspect", "read"]
