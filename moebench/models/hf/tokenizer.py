"""A checkpoint's own tokenizer as a `Tokenizer`: bytes in, ids out, and the bytes that each id stands for.

Two kinds stand for any bytes: byte-level BPE (GPT-2, Llama 3, Qwen, OLMo), whose tokens are letters for bytes, and
SentencePiece with byte fallback (Llama 2, Mistral, Mixtral), where ▁ is a space and `<0xE6>` a byte. Bytes that are no
UTF-8, such as half of a letter at the edge of a window, become tokens of single bytes.

Tokens need not add up to their text: SentencePiece puts a space before it, and some tokenizers compose letters (NFC).
Whoever counts bits per byte then divides by the bytes of the text, which are known.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moebench.checkpoints.located import CheckpointError
from moebench.text import plain

_ESCAPED = re.compile("[\udc80-\udcff]+")
"""Bytes that are no UTF-8, as `surrogateescape` writes them."""
SEPARATOR = "\0"
"""Byte 0 under its own name: models of ours whose tokens are bytes are exported with it as their special token."""
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")


class CheckpointTokenizer:
    """See the module."""

    def __init__(self, whole: Any, *, rows: int) -> None:
        """`whole` is transformers' tokenizer, `rows` those of the model's table. Raises CheckpointError when it cannot
        write every text, or has ids beyond the table."""
        backend = getattr(whole, "backend_tokenizer", None)
        if backend is None:
            raise CheckpointError(
                "its tokenizer has no fast form", hint="save it as tokenizer.json: AutoTokenizer's save_pretrained does"
            )
        ids: list[int] = whole.encode("a", add_special_tokens=True)
        self._backend = backend
        self._backend.encode_special_tokens = True  # a text that spells a special token is text; `whole` resets it
        self.vocab = rows
        vocab: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        if (last := max(vocab.values())) >= rows:
            raise CheckpointError(
                f"its tokenizer has ids up to {last:,}, the model {rows:,} rows of embeddings: it is another model's"
            )
        added = backend.get_added_tokens_decoder()
        special = {index for index, token in added.items() if token.special}
        written = _writing(vocab)
        self._bytes: list[bytes] = [b""] * rows
        for token, index in vocab.items():
            if index not in special:
                self._bytes[index] = token.encode() if index in added else written(token)
        self.token_bytes: NDArray[np.int64] = np.array([len(text) for text in self._bytes], dtype=np.int64)
        self._of_byte = self._single_bytes(special)
        self._prefixed = self._bytes_of(backend.encode("a", add_special_tokens=False).ids) == b" a"
        start = whole.bos_token_id if whole.bos_token_id is not None else whole.eos_token_id
        if start is None:
            raise CheckpointError("its tokenizer names no token that begins or ends a text (bos_token, eos_token)")
        self.start = int(start)
        """What stands before a text: bos, else eos, as lm-eval takes it."""
        self.end = int(start if whole.eos_token_id is None else whole.eos_token_id)
        self.adds_start = ids[:1] == [self.start]
        """Whether transformers puts it there by itself."""
        self.digest = hashlib.sha256(backend.to_str().encode()).hexdigest()

    def _single_bytes(self, special: set[int]) -> list[int]:
        """The id of each byte alone."""
        alone = {text[0]: index for index, text in enumerate(self._bytes) if len(text) == 1 and index not in special}
        named = {
            int(found[1], 16): index
            for token, index in self._backend.get_vocab().items()
            if (found := _BYTE.fullmatch(token))
        }
        separator = self._backend.token_to_id(SEPARATOR)
        of_byte = ({} if separator is None else {0: separator}) | alone | named
        if len(of_byte) < 256:
            raise CheckpointError(
                f"its tokenizer has tokens for {len(of_byte)} of the 256 bytes, so there are texts it cannot write"
            )
        return [of_byte[byte] for byte in range(256)]

    def encode(self, text: bytes) -> list[int]:
        """The ids of a text, without `start`."""
        ids: list[int] = []
        escaped, at = text.decode("utf-8", "surrogateescape"), 0
        for broken in [*_ESCAPED.finditer(escaped), None]:
            until = len(escaped) if broken is None else broken.start()
            if at < until:
                ids += self._backend.encode(escaped[at:until], add_special_tokens=False).ids
            if broken is not None:
                ids += [self._of_byte[ord(letter) - 0xDC00] for letter in broken[0]]
                at = broken.end()
        return ids

    def decode(self, ids: Sequence[int]) -> bytes:
        """The text of ids, special tokens left out, and a space that the tokenizer puts before a text."""
        text = self._bytes_of(ids)
        return text[1:] if self._prefixed and text.startswith(b" ") else text

    def _bytes_of(self, ids: Sequence[int]) -> bytes:
        return b"".join(self._bytes[index] for index in ids)


def _writing(vocab: dict[str, int]) -> Callable[[str], bytes]:
    """Token as it is spelled -> its bytes."""
    byte_of = {letter: byte for byte, letter in enumerate(letters())}
    lacking = [byte for letter, byte in byte_of.items() if letter not in vocab]
    if not lacking or (lacking == [0] and SEPARATOR in vocab):
        # A token of other letters is one that its publisher added as it stands.
        return lambda token: bytes(byte_of[c] for c in token) if all(c in byte_of for c in token) else token.encode()

    def metaspace(token: str) -> bytes:
        if found := _BYTE.fullmatch(token):
            return bytes([int(found[1], 16)])
        return token.replace("▁", " ").encode()

    return metaspace


def letters() -> list[str]:
    """The letter that byte-level BPE writes for each byte (Radford et al. 2019): itself where it prints."""
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


def load_tokenizer(folder: Path, *, rows: int) -> CheckpointTokenizer:
    """The tokenizer of a checkpoint's folder. Raises CheckpointError for one that is not of it or cannot be used."""
    from transformers import AutoTokenizer

    try:
        whole = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # whatever a library raises of a file that may hold anything
        raise CheckpointError(f"{folder}: its tokenizer does not read: {plain(error, most=300)}") from None
    try:
        return CheckpointTokenizer(whole, rows=rows)
    except CheckpointError as error:
        raise CheckpointError(f"{folder}: {error.message}", hint=error.hint) from None
