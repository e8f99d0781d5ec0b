"""Writes tests/demo/data from the packages its README names: `python -m tests.demo.make_data VADER_SOURCE.tar.gz`."""

import io
import json
import random
import re
import sys
import tarfile
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

from tests.demo.tasks import DATA, Example, write_split
from tests.demo.templates import Language, expand, lists_used

SEED = 7
TEST_SHARE = 0.3
PLACES = {
    "area": ["kitchen", "bedroom", "office", "garage", "bathroom", "hallway", "living room", "nursery"],
    "floor": ["ground", "first", "upper", "basement", "attic"],
    "name": ["coffee machine", "reading lamp", "heater", "desk lamp", "fan", "tv", "speaker", "fairy lights"],
}
# Label (the class name that the scorer embeds): intents of the package, and the domains that belong to it (empty: all).
INTENTS: Mapping[str, tuple[str, frozenset[str]]] = {
    "turn on": ("HassTurnOn", frozenset({"light", "fan", "switch"})),
    "turn off": ("HassTurnOff", frozenset({"light", "fan", "switch"})),
    "open": ("HassTurnOn", frozenset({"cover"})),
    "close": ("HassTurnOff", frozenset({"cover"})),
    "light settings": ("HassLightSet", frozenset()),
    "set the temperature": ("HassClimateSetTemperature", frozenset()),
    "ask the temperature": ("HassClimateGetTemperature", frozenset()),
    "set the volume": ("HassSetVolume", frozenset()),
    "start a timer": ("HassStartTimer", frozenset()),
    "cancel a timer": ("HassCancelTimer", frozenset()),
    "pause a timer": ("HassPauseTimer", frozenset()),
    "resume a timer": ("HassUnpauseTimer", frozenset()),
    "lengthen a timer": ("HassIncreaseTimer", frozenset()),
    "shorten a timer": ("HassDecreaseTimer", frozenset()),
    "ask time left": ("HassTimerStatus", frozenset()),
    "ask a state": ("HassGetState", frozenset()),
}
LANGUAGES = {
    "English": "en", "German": "de", "Dutch": "nl", "French": "fr", "Spanish": "es", "Italian": "it",
    "Portuguese": "pt", "Swedish": "sv", "Danish": "da", "Polish": "pl", "Finnish": "fi", "Romanian": "ro",
}  # fmt: skip
SENTIMENTS = {"positive": 1, "negative": -1}
# Snippets rated weaker than this on the scale of -4 to 4 are left out: raters disagree on them.
CLEAR_RATING = 1.0


def main(vader_source: Path) -> None:
    rng = random.Random(SEED)
    _write("intent", _intents(rng), {"train": 100, "test": 30}, rng)
    _write("language", _languages(rng), {"train": 110, "test": 40}, rng)
    _write("sentiment", _snippets(vader_source), {"train": 1100, "test": 300}, rng)


def _package(code: str) -> dict[str, Any]:
    text = resources.files("home_assistant_intents").joinpath("data", f"{code}.json").read_text(encoding="utf-8")
    data: dict[str, Any] = json.loads(text)
    return data


def _grammar(data: Mapping[str, Any], places: Mapping[str, list[str]]) -> Language:
    lists = {name: value for name, value in data["lists"].items() if "wildcard" not in value}
    return Language(data["expansion_rules"], lists | {name: {"values": values} for name, values in places.items()})


def _intents(rng: random.Random) -> Iterable[Example]:
    data = _package("en")
    grammar = _grammar(data, PLACES)
    for label, (intent, domains) in INTENTS.items():
        blocks = [block for block in data["intents"][intent]["data"] if not domains or domains & _domains(block)]
        yield from _sentences(label, [text for block in blocks for text in block["sentences"]], grammar, rng)


def _domains(block: Mapping[str, Any]) -> set[str]:
    named = block.get("requires_context", {}).get("domain", [])
    return {block.get("slots", {}).get("domain", ""), *([named] if isinstance(named, str) else named)}


def _languages(rng: random.Random) -> Iterable[Example]:
    """Sentences without places and device names, which the package does not translate."""
    for label, code in LANGUAGES.items():
        data = _package(code)
        templates = [
            text for intent in data["intents"].values() for block in intent["data"] for text in block["sentences"]
        ]
        yield from _sentences(label, templates, _grammar(data, {}), rng)


def _sentences(label: str, templates: Iterable[str], grammar: Language, rng: random.Random) -> Iterable[Example]:
    usable = [text for text in dict.fromkeys(templates) if lists_used(text, grammar) <= set(grammar.lists)]
    for template in usable:
        for _ in range(40):
            yield Example(label, f"{label}/{template}", expand(template, grammar, rng))


def _snippets(vader_source: Path) -> Iterable[Example]:
    for line in _rated_snippets(vader_source).splitlines():
        number, rating, text = line.split("\t")
        for label, sign in SENTIMENTS.items():
            if float(rating) * sign >= CLEAR_RATING:
                yield Example(label, number, " ".join(text.split()))


def _rated_snippets(vader_source: Path) -> str:
    with tarfile.open(vader_source) as outer:
        inner = _member(outer, "hutto_ICWSM_2014.tar.gz")
    with tarfile.open(fileobj=io.BytesIO(inner)) as archive:
        return _member(archive, "movieReviewSnippets_GroundTruth.txt").decode("utf-8", errors="replace")


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    member = next(member for member in archive.getmembers() if member.name.endswith("/" + name))
    stream = archive.extractfile(member)
    assert stream is not None
    return stream.read()


def _write(task: str, examples: Iterable[Example], per_label: Mapping[str, int], rng: random.Random) -> None:
    """Both splits, balanced; a template or snippet, and a sentence up to its numbers, is on one side only."""
    distinct = list({_masked(example.text): example for example in examples}.values())
    test_groups = _test_groups(distinct, rng)
    numbers = {group: str(number) for number, group in enumerate(dict.fromkeys(e.group for e in distinct))}
    for split, count in per_label.items():
        side = [replace(e, group=numbers[e.group]) for e in distinct if (e.group in test_groups) == (split == "test")]
        write_split(DATA / f"{task}.{split}.tsv", _balanced(side, count, rng))


def _test_groups(examples: Iterable[Example], rng: random.Random) -> set[str]:
    chosen: set[str] = set()
    for groups in _by_label(examples).values():
        names = sorted({example.group for example in groups})
        chosen.update(rng.sample(names, max(2, round(len(names) * TEST_SHARE))))
    return chosen


def _balanced(examples: Iterable[Example], count: int, rng: random.Random) -> list[Example]:
    """Up to `count` examples a label, templates taking turns so that a rich one does not crowd out the others."""
    kept: list[Example] = []
    for of_label in _by_label(examples).values():
        turns: Counter[str] = Counter()
        ranked = []
        for example in rng.sample(of_label, len(of_label)):
            ranked.append((turns[example.group], example))
            turns[example.group] += 1
        kept += [example for _, example in sorted(ranked, key=lambda entry: entry[0])[:count]]
    return kept


def _by_label(examples: Iterable[Example]) -> dict[str, list[Example]]:
    labels: dict[str, list[Example]] = {}
    for example in examples:
        labels.setdefault(example.label, []).append(example)
    return labels


def _masked(text: str) -> str:
    return " ".join(re.findall(r"\w+", re.sub(r"\d+", "0", text.lower())))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
