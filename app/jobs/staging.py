"""Where a job writes before its files become blobs: a folder for each attempt, gone when the attempt ends."""

import os
import shutil
from pathlib import Path

from app.settings import Settings

WORKER_VARIABLE = "RQ_WORKER_ID"  # RQ sets it in the process of each job


def attempt_folder(settings: Settings, job_id: str, worker: str | None = None) -> Path:
    """The folder of one worker's attempt: two workers at one job, of which one has lost its lease, never share."""
    return settings.staging / job_id / (worker or os.environ.get(WORKER_VARIABLE, "here"))


def open_attempt(settings: Settings, job_id: str) -> Path:
    """An empty folder for this attempt; what earlier ones left is removed, as none of them can commit any more."""
    shutil.rmtree(settings.staging / job_id, ignore_errors=True)
    folder = attempt_folder(settings, job_id)
    folder.mkdir(parents=True)
    return folder


def close_attempt(settings: Settings, job_id: str, worker: str | None = None) -> None:
    """Remove what the attempt has written."""
    folder = attempt_folder(settings, job_id, worker)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.parent.rmdir()
    except OSError:  # gone, or another worker's attempt is in it
        return


def clear(settings: Settings) -> None:
    """Remove every attempt. Only while nobody is at work in this data folder."""
    shutil.rmtree(settings.staging, ignore_errors=True)
