"""The transfer benchmark measures what it says."""

from pathlib import Path

from tests.benchmarks.transfers import measured


def test_downloads_uploads_and_memory_are_told(tmp_path: Path) -> None:
    lines = list(measured(tmp_path, 3_000_000, rounds=1))
    told = [line.partition(":")[0] for line in lines]
    servers = ["download of 0.0 GB, stockpot", "download of 0.0 GB, plain FileResponse"]
    assert told[:2] == servers
    assert told[-4:] == [
        "upload of 0.0 GB, stockpot, which hashes",
        "upload of 0.0 GB, plain, which does not",
        "8 downloads at once",
        "8 uploads at once",
    ]
    assert "1.00 × stockpot's time" in lines[0]
