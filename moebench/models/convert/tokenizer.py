"""The tokenizer of an exported model, in the format of the library tokenizers: what transformers and lm-eval read.

It adds no token by itself, as ours does not, so that both see the same tokens; the token that begins a text is its bos.
"""

from __future__ import annotations

from typing import Any

from moebench.data.tokenizer import LETTERS, AnyTokenizer, Bytes

SEPARATOR = "\0"
"""Byte 0, which stands before every document: begin, end and padding at once."""


def tokens_in_words(tokenizer: AnyTokenizer) -> str:
    """What its ids are."""
    if isinstance(tokenizer, Bytes):
        what = "ids 0 to 255 are the bytes of UTF-8 text; bos, eos and pad are id 0, the byte between documents"
        return f"Tokens are bytes: {what}"
    return f"{tokenizer.vocab:,} tokens; bos and pad are id {tokenizer.start}, which stands before every document"


def tokenizer_file(tokenizer: AnyTokenizer) -> dict[str, Any]:
    """`tokenizer.json`."""
    return _of_bytes() if isinstance(tokenizer, Bytes) else {**tokenizer.content, "post_processor": None}


def tokenizer_config(tokenizer: AnyTokenizer, *, context: int) -> dict[str, Any]:
    """What transformers asks beside `tokenizer.json`."""
    start = end = SEPARATOR
    if not isinstance(tokenizer, Bytes):
        named = {one["id"]: one["content"] for one in tokenizer.content["added_tokens"]}
        start, end = tokenizer.start_token, named[tokenizer.end]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": start,
        "eos_token": end,
        "pad_token": start,
        "model_max_length": context,
        "clean_up_tokenization_spaces": False,
    }


def _of_bytes() -> dict[str, Any]:
    """Bytes as tokens, in the format of the tokenizers library: a byte-level BPE without merges.

    Id n is byte n. The separator stands under its own character, so that it is special where it occurs in a text and
    no other text is taken for it.
    """
    bytewise = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    special = {"id": 0, "content": SEPARATOR, "special": True, "normalized": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**special, "single_word": False, "lstrip": False, "rstrip": False}],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", **bytewise},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", **bytewise},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {SEPARATOR if byte == 0 else letter: byte for byte, letter in enumerate(LETTERS)},
            "merges": [],
        },
    }
