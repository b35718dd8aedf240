"""Bytes as tokens, in the format of the library tokenizers: what an exported model of bytes is given."""

from __future__ import annotations

from typing import Any

from moebench.models.architecture import Architecture

SEPARATOR = "\0"
"""Byte 0, which stands before every document: begin, end and padding at once."""
TOKENS = "ids 0 to 255 are the bytes of UTF-8 text; bos, eos and pad are id 0, the byte between documents"


def tokenizer() -> dict[str, Any]:
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
            "vocab": {SEPARATOR if byte == 0 else letter: byte for byte, letter in enumerate(_letters())},
            "merges": [],
        },
    }


def _letters() -> list[str]:
    """The character that byte-level BPE writes for each byte (Radford et al. 2019): itself where it prints."""
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def tokenizer_config(a: Architecture) -> dict[str, Any]:
    """What transformers asks beside `tokenizer.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": SEPARATOR,
        "eos_token": SEPARATOR,
        "pad_token": SEPARATOR,
        "model_max_length": a.context,
        "clean_up_tokenization_spaces": False,
    }
