"""Byte-pair encoders on the `tokenizers` library, which here sees ordinary text only."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from tokenizers import Tokenizer, models

from quipu.errors import DamagedCheckpoint

LONG_TEXT = 8192
"""Characters above which the batch call is used: unlike ``encode`` it lets go of the interpreter lock, so that a
prompt of megabytes (about a second each) does not stop the other threads."""


def byte_pair_model(
    vocabulary: Mapping[str, int],
    merges: Iterable[tuple[str, str]],
    special: Collection[str],
    unknown: str | None = None,
    **options: bool,
) -> models.BPE:
    """A BPE model that cannot produce a special token: none of them, and no merge that makes one, is in it.

    Raises DamagedCheckpoint where a merge names a token that the vocabulary lacks.
    """
    kept = []
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise DamagedCheckpoint(
                    f"the tokenizer's merge {left!r} + {right!r} needs the token {token!r}, which is not in its "
                    "vocabulary. Get the file again"
                )
        if special and (left in special or right in special or left + right in special):
            continue
        kept.append((left, right))
    ordinary = {token: index for token, index in vocabulary.items() if token not in special or token == unknown}
    return models.BPE(ordinary, kept, unk_token=unknown, **options)


def backend(model: models.BPE, normalizer: Any, pre_tokenizer: Any) -> Tokenizer:
    """A `tokenizers` pipeline; normalizer and pre-tokenizer are given as in tokenizer.json. Errors: DamagedCheckpoint.

    The model is put in afterwards: writing 200,000 tokens as JSON only to parse them again would take seconds.
    """
    shell = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "model": {"type": "BPE", "vocab": {}, "merges": []},
    }
    try:
        pipeline = Tokenizer.from_str(json.dumps(shell))
    except Exception as error:  # the library raises Exception itself
        raise DamagedCheckpoint(
            f"the tokenizer's normalizer or pre_tokenizer is not one that the tokenizers library knows: {error}"
        ) from error
    pipeline.model = model
    return pipeline


class BytePairEncoder:
    """Text -> ids. ``rest`` is used for text that follows other text, where a family tells the two apart."""

    def __init__(self, first: Tokenizer, rest: Tokenizer | None = None) -> None:
        self._first, self._rest = first, rest or first

    def __call__(self, text: str, continues: bool) -> list[int]:
        """Ids of ordinary ``text``. A byte that the vocabulary has no token for gives none, as in transformers."""
        pipeline = self._rest if continues else self._first
        if len(text) > LONG_TEXT:
            [encoding] = pipeline.encode_batch_fast([text], add_special_tokens=False)
        else:
            encoding = pipeline.encode(text, add_special_tokens=False)
        ids: list[int] = encoding.ids
        return ids
