"""What the operator decides, read once from the environment: STOCKPOT_* and three URLs."""

import ipaddress
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from app.memory import PROCESS_BYTES
from app.sizes import parse_size
from merge_core.errors import InputError, nearest

URL_VARIABLES = {"REDIS_URL": "redis_url", "DATABASE_URL": "database_url", "BLOB_URL": "blob_url"}
PREFIX = "STOCKPOT_"
CLIENT_VARIABLES = frozenset({"STOCKPOT_URL", "STOCKPOT_TOKEN"})  # read by the command, not by the service

GIB = 1 << 30


def _half_the_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


def _size(value: object) -> object:
    """A size with a unit in bytes; what is no such thing is left for pydantic to refuse."""
    with suppress(InputError):
        return parse_size(value, "") if isinstance(value, str) else value
    return value


Size = Annotated[int, BeforeValidator(_size)]


def _hub(url: str) -> str:
    """The address of a hub, without a slash at its end; empty for none."""
    parts = urlsplit(url.rstrip("/"))
    if url and not (parts.scheme in ("http", "https") and parts.hostname and not parts.query and not parts.username):
        raise ValueError("the address of a hub, such as https://hub.example.org, without a name or a query")
    return parts.geturl()


HubUrl = Annotated[str, AfterValidator(_hub)]
Hosts = Annotated[str, AfterValidator(lambda hosts: " ".join(sorted(set(hosts.replace(",", " ").split()))))]
"""Hosts, with a port where it is not the usual one, between commas or spaces."""


class Settings(BaseModel):
    """One process's settings; `environment()` hands the same ones to a child process."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: Folder = Field(Path("var"), validate_default=True)
    host: str = "127.0.0.1"
    port: int = Field(8080, ge=0, le=65535)
    workers: int = Field(1, ge=0, le=256)
    threads: int = Field(default_factory=_processors, ge=1, le=1024)
    memory_bytes: Size = Field(default_factory=_half_the_memory, ge=PROCESS_BYTES)
    cache_bytes: Size = Field(32 * GIB, ge=0)
    pack: bool = True
    max_file_bytes: Size = Field(100 * GIB, ge=1)
    xorb_days: int = Field(30, ge=1, le=3650)
    lease_s: int = Field(15, ge=10, le=600)
    job_deadline_s: int = Field(24 * 3600, ge=1)
    upstream: HubUrl = ""
    upstream_hosts: Hosts = ""
    upstream_token: str | None = None
    upstream_proxy: bool = False
    upstream_redirect: bool = False
    redis_url: str | None = None
    database_url: str = ""
    blob_url: str = ""

    def model_post_init(self, _context: Any) -> None:
        """Fill in the URLs that follow from the data folder (object.__setattr__: the model is frozen)."""
        if not self.database_url:
            object.__setattr__(self, "database_url", f"sqlite:///{self.data / 'stockpot.db'}")
        if not self.blob_url:
            object.__setattr__(self, "blob_url", (self.data / "blobs").as_uri())

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None, **overrides: Any) -> Self:
        """Settings from `environment` (this process's own by default); `overrides` that are None do not count."""
        given = _fields_in(os.environ if environment is None else environment, cls.model_fields)
        given |= {field: value for field, value in overrides.items() if value is not None}
        try:
            settings = cls(**given)
        except ValidationError as error:
            raise _setting_error(error) from None
        settings.check_reach()
        return settings

    def environment(self) -> dict[str, str]:
        """The variables that make `from_environment` return these same settings."""
        variables = {field: variable for variable, field in URL_VARIABLES.items()}
        values = {field: value for field, value in self.model_dump().items() if value is not None}
        return {variables.get(field, PREFIX + field.upper()): str(value) for field, value in values.items()}

    def check_reach(self) -> None:
        """Refuse a queue that other machines reach, beside records or blobs that they do not."""
        if not self.redis_url or _is_local(self.redis_url):
            return
        local = {"DATABASE_URL": self.database_url, "BLOB_URL": self.blob_url}
        for variable, value in local.items():
            if value.startswith(("sqlite", "file:")):
                raise InputError(
                    "REDIS_URL is on another machine, so workers there would not see what this machine keeps in files",
                    where=variable,
                    found=_without_password(value),
                    expected="postgresql://… and s3://…, or a REDIS_URL on this machine",
                )

    def check_exposure(self, has_tokens: bool) -> None:
        """Refuse to listen beyond loopback while there is no token: everybody could do everything."""
        if has_tokens or is_loopback(self.host):
            return
        raise InputError(
            "no token exists, and this address is reachable from other machines",
            where="STOCKPOT_HOST",
            found=self.host,
            expected="a loopback address such as 127.0.0.1, or a token made first with `stockpot tokens create`",
        )

    @property
    def build_bytes(self) -> int:
        """What one job of this machine's workers may take of `memory_bytes`, which all of them share."""
        return self.memory_bytes // max(self.workers, 1)

    @property
    def staging(self) -> Path:
        """Where jobs write before their files become blobs."""
        return self.data / "staging"

    @property
    def uploads(self) -> Path:
        """Where uploads lie until they are complete."""
        return self.data / "uploads"


def is_loopback(host: str) -> bool:
    """True for an address that only this machine can reach."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost"


def _fields_in(environment: Mapping[str, str], fields: Mapping[str, object]) -> dict[str, Any]:
    known = {PREFIX + field.upper(): field for field in fields if field not in URL_VARIABLES.values()}
    ours = [name for name in environment if name.startswith(PREFIX) and name not in CLIENT_VARIABLES]
    for name in ours:
        if name not in known:
            raise InputError("no such setting", where=name, found=name, expected=nearest(name, known))
    urls = {field: environment[name] for name, field in URL_VARIABLES.items() if environment.get(name)}
    return {known[name]: environment[name] for name in ours} | urls


def _setting_error(error: ValidationError) -> InputError:
    first = error.errors()[0]
    field = str(first["loc"][0]) if first["loc"] else "settings"
    variables = {field: variable for variable, field in URL_VARIABLES.items()}
    where = variables.get(field, PREFIX + field.upper())
    return InputError("not an acceptable setting", where=where, found=repr(first["input"]), expected=first["msg"])


def _is_local(redis_url: str) -> bool:
    parts = urlsplit(redis_url)
    return parts.scheme == "unix" or is_loopback(parts.hostname or "localhost")


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return url.replace(f":{parts.password}@", ":…@") if parts.password else url
