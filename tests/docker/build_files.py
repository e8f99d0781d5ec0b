"""Reads docker/Dockerfile and .dockerignore the way the builder does, as far as the tests here ask."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction with its continuation lines joined; `stage` counts the FROMs before it, from 1."""

    word: str
    rest: str
    stage: int

    def words(self) -> list[str]:
        """The arguments: of the JSON form where it is one, else of the plain form without `--flags`."""
        if self.rest.startswith("["):
            return [str(word) for word in json.loads(self.rest)]
        return [word for word in self.rest.split() if not word.startswith("--")]


def instructions() -> list[Instruction]:
    """The Dockerfile's instructions in order, comments left out."""
    lines = [line for line in DOCKERFILE.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    found: list[Instruction] = []
    for line in filter(None, map(str.strip, joined.splitlines())):
        word, _, rest = line.partition(" ")
        stages = sum(1 for earlier in found if earlier.word == "FROM")
        found.append(Instruction(word, rest.strip(), stages + (word == "FROM")))
    return found


def final(word: str) -> list[Instruction]:
    """The instructions `word` of the last stage: what the image has."""
    everything = instructions()
    return [one for one in everything if one.word == word and one.stage == everything[-1].stage]


def copied_sources() -> list[str]:
    """Paths that COPY takes from the repository, earlier stages' files left out."""
    copies = [one for one in instructions() if one.word == "COPY" and "--from=" not in one.rest]
    return [source for copy in copies for source in copy.words()[:-1]]


def is_ignored(path: str) -> bool:
    """Whether .dockerignore keeps `path` out of the build: the last pattern that fits it or a parent decides."""
    parts = path.split("/")
    prefixes = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    ignored = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        expression = _as_expression(pattern.removeprefix("!"))
        if any(expression.fullmatch(prefix) for prefix in prefixes):
            ignored = not pattern.startswith("!")
    return ignored


def _as_expression(pattern: str) -> re.Pattern[str]:
    escaped = re.escape(pattern)
    return re.compile(escaped.replace(r"\*\*/", "(?:.*/)?").replace(r"\*\*", ".*").replace(r"\*", "[^/]*"))
