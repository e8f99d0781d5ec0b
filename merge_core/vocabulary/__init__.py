"""Models with different tokens: one numbering for all, embeddings put in its order, and its tokenizer."""

from merge_core.vocabulary.alignment import Alignment, Opened, align_vocabularies, speaker
from merge_core.vocabulary.config import with_vocabulary

__all__ = ["Alignment", "Opened", "align_vocabularies", "speaker", "with_vocabulary"]
