from pathlib import Path

import pytest

from app.settings import Settings
from merge_core.errors import InputError


def test_defaults_keep_everything_in_the_data_folder(tmp_path: Path) -> None:
    settings = Settings.from_environment({"STOCKPOT_DATA": str(tmp_path)})
    assert settings.database_url == f"sqlite:///{tmp_path}/stockpot.db"
    assert settings.blob_url == f"file://{tmp_path}/blobs"
    assert settings.redis_url is None
    assert settings.lease_s == 15


def test_a_child_gets_the_same_settings(tmp_path: Path) -> None:
    settings = Settings(data=tmp_path, port=0, threads=3, redis_url="unix:///run/socket")
    assert Settings.from_environment(settings.environment()) == settings


def test_what_is_said_on_the_command_line_wins_over_the_environment() -> None:
    settings = Settings.from_environment({"STOCKPOT_PORT": "1", "STOCKPOT_THREADS": "2"}, port=3, host=None)
    assert (settings.port, settings.threads, settings.host) == (3, 2, "127.0.0.1")


def test_an_unknown_setting_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"STOCKPOT_THREAD.*STOCKPOT_THREADS"):
        Settings.from_environment({"STOCKPOT_THREAD": "2"})
    Settings.from_environment({"STOCKPOT_TOKEN": "the command's", "STOCKPOT_URL": "http://pot", "HOME": "/"})


@pytest.mark.parametrize(
    ("name", "value"), [("STOCKPOT_PORT", "70000"), ("STOCKPOT_THREADS", "two"), ("STOCKPOT_LEASE_S", "1")]
)
def test_a_value_out_of_range_names_its_variable(name: str, value: str) -> None:
    with pytest.raises(InputError, match=name):
        Settings.from_environment({name: value})


@pytest.mark.parametrize("redis", ["redis://queue:6379", "rediss://:pass@10.0.0.7/0", "redis://[2001:db8::1]/0"])
def test_a_remote_queue_needs_remote_records_and_blobs(redis: str) -> None:
    remote = {"DATABASE_URL": "postgresql+psycopg://pot:hush@sql/pot", "BLOB_URL": "s3://bucket"}
    Settings.from_environment({"REDIS_URL": redis} | remote)
    for missing in remote:
        with pytest.raises(InputError, match=missing):
            Settings.from_environment({"REDIS_URL": redis} | {k: v for k, v in remote.items() if k != missing})


@pytest.mark.parametrize("redis", ["redis://localhost:6379", "redis://127.0.0.1", "unix:///run/redis.sock"])
def test_a_queue_on_this_machine_goes_with_local_files(redis: str) -> None:
    Settings.from_environment({"REDIS_URL": redis})


@pytest.mark.parametrize(
    ("host", "is_open_to_others"),
    [("127.0.0.1", False), ("localhost", False), ("::1", False), ("0.0.0.0", True), ("::", True), ("pot.local", True)],
)
def test_a_bind_that_others_reach_needs_a_token(host: str, is_open_to_others: bool) -> None:
    settings = Settings(host=host)
    settings.check_exposure(has_tokens=True)
    if is_open_to_others:
        with pytest.raises(InputError, match="token"):
            settings.check_exposure(has_tokens=False)
    else:
        settings.check_exposure(has_tokens=False)
