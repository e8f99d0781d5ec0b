"""A full checkpoint with config and tokenizer, as transformers loads it."""

from collections.abc import Iterable
from pathlib import Path

from merge_core.layout import Shard, index_json, lay_out
from merge_core.outputs.contract import Arranged, Wish
from merge_core.side_files import all_side_files
from merge_core.sink import Sink


def arrange(wish: Wish) -> Arranged:
    specs = (tensor.spec for tensor in wish.tensors.values())
    shards = lay_out(specs, wish.recipe.output.max_shard_bytes, wish.metadata)
    side_files = all_side_files(wish.recipe, wish.donor, index_json(shards), wish.notes)
    return Arranged(wish.tensors, shards, side_files, open_shards, wish.notes, is_foreseen=True)


def open_shards(folder: Path, shards: Iterable[Shard], durable: bool) -> Sink:
    return Sink(folder, shards, durable=durable)
