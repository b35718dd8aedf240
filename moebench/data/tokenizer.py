"""Tokenizers: text to ids and back, so that every id stands for known bytes.

Two laws hold for each: `decode(encode(text)) == text` for any bytes, UTF-8 or not, and `token_bytes[encode(text)]`
sums to the length of the text. So bits over bytes of scored tokens are unbiased whatever the vocabulary. What would
break a law is taken out (a normalizer to NFC, a space put before a text) or refused (no token for some byte).

`Subwords` is a byte-level BPE (Radford et al. 2019) or one that falls back to bytes (Kudo and Richardson 2018), in the
format of the tokenizers library, which is imported when a text is encoded and for nothing else.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from moebench.data.documents import DataError
from moebench.data.sources.tokenizer import (
    MOST_TOKENS,
    TokenizerFile,
    TokenizerOfCheckpoint,
    TokenizerSpec,
    TrainedBPE,
)
from moebench.identity import digest_of
from moebench.text import listed, plain, quoted

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Library

FILE = "tokenizer.json"
START = "<|endoftext|>"
"""Stands between documents in a vocabulary of our own."""
PIECE_BYTES = 2**20
"""Longer texts are encoded in pieces, cut after a line feed."""
LEARNED_BYTES = 2**16
"""The same of texts that merges are learned from, of which the library holds 256 pieces at a time."""
TRAINED_ON = 2**28
"""Bytes of text that merges are learned from at most, of documents evenly spaced."""
MOST_BYTES = 2**27
"""Of a tokenizer.json; larger ones are refused."""
_STARTS = ("<|endoftext|>", "<|begin_of_text|>", "<|startoftext|>", "<s>", "<bos>", "[BOS]", "</s>", "<eos>", "[EOS]")
"""Tokens that stand before a text where a file says nothing of them, the likeliest first."""
_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "▁"
"""How tokenizers that fall back to bytes write a space."""
_UNDECODABLE, _OR_SPACE = re.compile(r"([\udc80-\udcff]+)"), re.compile(rf"([\udc80-\udcff{_SPACE}]+)")
"""What goes byte by byte: what is no UTF-8, and the letter that would be read as a space."""


class Bytes:
    """Bytes as tokens; byte 0 stands between documents."""

    start = end = 0
    adds_start = False
    vocab = 256
    digest = "bytes"
    token_bytes: NDArray[np.int64] = np.ones(256, dtype=np.int64)

    def encode(self, text: bytes) -> list[int]:
        """Each byte is its id."""
        return list(text)

    def decode(self, ids: Sequence[int]) -> bytes:
        """Rows of a model's table beyond the 256 stand for nothing."""
        return bytes([token for token in ids if token < self.vocab])


class Subwords:
    """A vocabulary of pieces of text, as a file in the format of the tokenizers library says it.

    Raises DataError for a file that says no such thing, or one that cannot keep the laws.
    """

    def __init__(
        self, content: Mapping[str, Any], *, start: str | None = None, end: str | None = None, where: str = FILE
    ) -> None:
        try:
            self.content = _lossless(content)
            self._pieces, self._byte_ids = _pieces(self.content)
            name = _chosen_start(self.content, start)
        except DataError as error:
            raise DataError(f"{where}: {error}") from None
        except (AttributeError, KeyError, IndexError, TypeError, ValueError, RecursionError):
            raise DataError(f"{where} is not a tokenizer in the format of the tokenizers library") from None
        self._where = where
        special = {one["content"]: one["id"] for one in self.content["added_tokens"] if one["special"]}
        self.start_token = name
        self.start: int = special[name]
        self.end: int = special.get(end or name, self.start)
        """What ends a text that is generated."""
        self.adds_start = _first_of_template(content.get("post_processor")) is not None
        """Whether other programs put a special token before a text with this file, unless they are told not to."""
        self.content["post_processor"] = _template(name, self.start)
        self.vocab = len(self._pieces)
        self.token_bytes: NDArray[np.int64] = np.array(list(map(len, self._pieces)), dtype=np.int64)
        self.digest = digest_of([_deciding(self.content), name], length=64)

    @property
    def file(self) -> str:
        """The tokenizer.json: what any program that reads such files needs."""
        return json.dumps(self.content, ensure_ascii=False, separators=(",", ":"))

    @cached_property
    def _library(self) -> Library:
        """The library's own. Raises DataError where it is not installed, or cannot read what it is given."""
        kind = _tokenizers().Tokenizer
        try:
            made = kind.from_str(self.file)
        except Exception as error:  # the library raises plain Exceptions
            raise DataError(f"{self._where}: the tokenizers library cannot read it: {plain(error)}") from None
        made.encode_special_tokens = True  # a text that holds the name of a special token is text
        library: Library = made
        return library

    def encode(self, text: bytes) -> list[int]:
        """The ids of a text, without `start`. Raises DataError where they do not stand for the text."""
        ids: list[int] = next(self.encode_all([text])).tolist()
        return ids

    def encode_all(self, texts: Iterable[bytes]) -> Iterator[NDArray[np.int64]]:
        """The ids of each text. Holds few texts at a time, and few pieces of a long one."""
        for some in _in_handfuls(texts):
            cut = [list(_cut(text, PIECE_BYTES)) for text in some]
            ids = self._encoded([piece for pieces in cut for piece in pieces])
            for pieces in cut:
                parts = list(itertools.islice(ids, len(pieces)))
                yield np.array(list(itertools.chain(*parts)), dtype=np.int64)

    def _encoded(self, pieces: list[bytes]) -> Iterator[list[int]]:
        """The ids of each piece, held against its bytes."""
        texts = [piece.decode("utf-8", "surrogateescape") for piece in pieces]
        odd = _UNDECODABLE if _is_bytelevel(self.content["pre_tokenizer"]) else _OR_SPACE
        split = [odd.split(text) for text in texts]  # text, odd, text, ...
        whole = [part for parts in split for part in parts[::2]]
        encoded = iter(self._library.encode_batch_fast(whole, add_special_tokens=False))
        for piece, parts in zip(pieces, split, strict=True):
            ids: list[int] = []
            for index, part in enumerate(parts):
                if index % 2:
                    ids += [self._byte_ids[byte] for byte in part.encode("utf-8", "surrogateescape")]
                else:
                    ids += next(encoded).ids
            if self.decode(ids) != piece:
                raise DataError(
                    f"{self._where}: its tokens do not stand for the text they were made from "
                    f"({quoted(_first_difference(piece, self.decode(ids)))}), so bits per byte would be wrong: "
                    "use a byte-level tokenizer that changes no text"
                )
            yield ids

    def decode(self, ids: Sequence[int]) -> bytes:
        """Rows of a model's table beyond its words stand for nothing."""
        return b"".join([self._pieces[token] for token in ids if token < self.vocab])


AnyTokenizer = Bytes | Subwords
BYTES = Bytes()


def make(spec: TokenizerSpec, *, base: Path, texts: Iterable[bytes] = ()) -> AnyTokenizer:
    """What a suite's `tokenizer:` stands for. `base` is the folder that relative paths start from; merges are learned
    from `texts`. Raises DataError when it cannot be had."""
    if isinstance(spec, TrainedBPE):
        return train(texts, vocab=spec.bpe)
    if isinstance(spec, TokenizerFile):
        return read(base / Path(spec.file).expanduser())
    if isinstance(spec, TokenizerOfCheckpoint):
        return of_checkpoint(base / Path(spec.checkpoint).expanduser())
    return BYTES


def vocab_of(spec: TokenizerSpec, *, base: Path) -> int:
    """Tokens that it has, before any text is seen: those asked of merges that are yet to be learned."""
    return spec.bpe if isinstance(spec, TrainedBPE) else make(spec, base=base).vocab


def train(texts: Iterable[bytes], *, vocab: int) -> Subwords:
    """A byte-level BPE of `vocab` tokens, of fewer where the texts give no more merges: the same for the same texts."""
    library = _tokenizers()
    level = library.pre_tokenizers.ByteLevel
    made = library.Tokenizer(library.models.BPE())
    made.pre_tokenizer, made.decoder = level(add_prefix_space=False), library.decoders.ByteLevel()
    trainer = library.trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[START], initial_alphabet=level.alphabet(), show_progress=False
    )
    pieces = (piece.decode("utf-8", "ignore") for text in texts for piece in _cut(text, LEARNED_BYTES))
    made.train_from_iterator(pieces, trainer)
    return Subwords(json.loads(made.to_str()), start=START, where="the trained tokenizer")


def read(path: Path) -> Subwords:
    """The tokenizer of a tokenizer.json; what stands beside it says which token begins a text. Raises DataError."""
    where = plain(path)
    content = _json(path, where)
    if not isinstance(content, dict):
        raise DataError(f"{where} is not a tokenizer in the format of the tokenizers library")
    beside = path.with_name("tokenizer_config.json")
    config = _json(beside, plain(beside)) if beside.is_file() else {}
    named = [config.get(key) for key in ("bos_token", "eos_token")] if isinstance(config, dict) else [None, None]
    start, end = (one.get("content") if isinstance(one, dict) else one for one in named)
    return Subwords(content, start=start or end, end=end, where=where)


def tokenizer_of(folder: Path) -> AnyTokenizer:
    """The tokenizer that a folder of our own keeps; bytes where it keeps none. Raises DataError for a broken one."""
    if not (folder / FILE).is_file():
        return BYTES
    content = _json(folder / FILE, plain(folder / FILE))
    made = Subwords(content, where=plain(folder / FILE))
    made.adds_start = False  # the file has a template that says which token begins a text, and nothing follows it here
    return made


def of_checkpoint(folder: Path) -> Subwords:
    """The tokenizer of a checkpoint's folder. Raises DataError for one that the checkpoint has no embeddings for."""
    if not folder.is_dir():
        raise DataError(f"there is no checkpoint at {plain(folder)}: give the folder that holds its tokenizer.json")
    made = read(folder / FILE)
    config = _json(folder / "config.json", plain(folder / "config.json")) if (folder / "config.json").is_file() else {}
    size = config.get("vocab_size") if isinstance(config, dict) else None
    if isinstance(size, int) and made.vocab > size:
        raise DataError(
            f"the tokenizer in {plain(folder)} has {made.vocab:,} tokens, its config.json says {size:,}: "
            "it is not the tokenizer of this checkpoint"
        )
    return made


# ---------------------------------------------------------------------------------------------- files


def _tokenizers() -> Any:
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")  # else it warns of every process started after it
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError:
        needed = "a tokenizer other than bytes needs the tokenizers library: pip install 'moebench[data]'"
        raise DataError(needed) from None
    return tokenizers


def _json(path: Path, where: str) -> Any:
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{where} has {path.stat().st_size:,} bytes; a tokenizer has at most {MOST_BYTES:,}")
        return json.loads(path.read_bytes())
    except OSError as error:
        raise DataError(f"{where} cannot be read: {error.strerror or 'an error of the file system'}") from None
    except (ValueError, RecursionError):
        raise DataError(f"{where} is not JSON, or not all of it: is the file cut short?") from None


# ---------------------------------------------------------------------------------------------- the vocabulary


def _lossless(content: Mapping[str, Any]) -> dict[str, Any]:
    """The same tokenizer without what would change a text before it is encoded, or encode it by chance."""
    kept = {**content, "truncation": None, "padding": None, "model": {**content["model"], "dropout": None}}
    kept["added_tokens"] = list(content.get("added_tokens") or ())
    kept["normalizer"] = _without(content.get("normalizer"), "normalizers", ("NFC", "Prepend"))
    kept["pre_tokenizer"] = _unprefixed(content.get("pre_tokenizer"), "pretokenizers")
    kept["decoder"] = _unprefixed(_without(content.get("decoder"), "decoders", ("Strip",)), "decoders")
    return kept


def _without(step: Any, many: str, kinds: tuple[str, ...]) -> Any:
    """A step of tokenizing without those of some kinds; None when none is left."""
    if step is None or step["type"] in kinds:
        return None
    if step["type"] != "Sequence":
        return step
    left = [kept for one in step[many] if (kept := _without(one, many, kinds)) is not None]
    return {**step, many: left} if left else None


def _unprefixed(step: Any, many: str) -> Any:
    """A step that puts no space before a text."""
    if step is None:
        return None
    if step["type"] == "Sequence":
        return {**step, many: [_unprefixed(one, many) for one in step[many]]}
    if step["type"] == "ByteLevel":
        return {**step, "add_prefix_space": False}
    if step["type"] == "Metaspace":
        kept = {key: value for key, value in step.items() if key != "add_prefix_space"}
        return {**kept, "prepend_scheme": "never"}
    return step


def _deciding(content: Mapping[str, Any]) -> dict[str, Any]:
    """What decides the ids of a text, in one form whichever version of the library wrote it."""
    model = content["model"]
    merges = [pair.split(" ", 1) if isinstance(pair, str) else list(pair) for pair in model.get("merges") or ()]
    named = ("type", "unk_token", "byte_fallback", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")
    said = {key: model[key] for key in named if model.get(key)}
    steps = {key: content[key] for key in ("normalizer", "pre_tokenizer", "added_tokens")}
    return {**steps, "model": {**said, "vocab": model["vocab"], "merges": merges}}


def _pieces(content: Mapping[str, Any]) -> tuple[list[bytes], list[int]]:
    """The bytes that each id stands for, none for a special token, and the id of each single byte."""
    vocab = content["model"]["vocab"]
    ids = dict(vocab) if isinstance(vocab, dict) else {piece: index for index, (piece, _) in enumerate(vocab)}
    added = {one["id"]: b"" if one["special"] else one["content"].encode() for one in content["added_tokens"]}
    every = [*ids.values(), *added]
    if not every or not all(type(token) is int and token >= 0 for token in every):
        raise DataError("its vocabulary has ids that are no whole numbers from 0")
    if max(every) >= MOST_TOKENS:
        raise DataError(f"its vocabulary has ids up to {max(every):,}; at most {MOST_TOKENS:,} tokens are allowed")
    if len(set(ids.values())) < len(ids):
        raise DataError("its vocabulary gives one id to two pieces of text")
    is_level = _is_bytelevel(content.get("pre_tokenizer"))
    if not is_level and not content["model"].get("byte_fallback"):
        raise DataError(
            "it has no token for every byte (it is neither byte-level nor falls back to bytes): text it does not know "
            "would become one unknown token of any length, and bits per byte would be wrong; use a byte-level tokenizer"
        )
    names = LETTERS if is_level else [f"<0x{byte:02X}>" for byte in range(256)]
    # Byte 0 stands in no document, so one that has made it its special token lacks nothing.
    if lacking := [byte for byte, name in enumerate(names) if byte and (name not in ids or ids[name] in added)]:
        raise DataError(
            f"it has no token for {len(lacking)} of the 256 bytes, such as 0x{lacking[0]:02X}: text that holds one "
            "would be lost, and bits per byte would be wrong; use one whose alphabet is all bytes"
        )
    pieces = [b""] * (max(every) + 1)
    for piece, token in ids.items():
        pieces[token] = _from_letters(piece) if is_level else _from_fallback(piece)
    for token, text in added.items():
        pieces[token] = text
    return pieces, [ids.get(name, 0) for name in names]


def _is_bytelevel(step: Any) -> bool:
    if step is None:
        return False
    return step["type"] == "ByteLevel" or (
        step["type"] == "Sequence" and any(map(_is_bytelevel, step["pretokenizers"]))
    )


def _letters() -> list[str]:
    """The character that byte-level BPE writes for each byte: itself where it prints."""
    prints = {*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in prints else chr(next(others)) for byte in range(256)]


LETTERS = _letters()
_BYTE_OF = {letter: byte for byte, letter in enumerate(LETTERS)}


def _from_letters(piece: str) -> bytes:
    """A piece of byte-level BPE; one that is not written in its letters is a name, and stands for no text."""
    values = [_BYTE_OF.get(letter) for letter in piece]
    return b"" if None in values else bytes(value for value in values if value is not None)


def _from_fallback(piece: str) -> bytes:
    byte = _FALLBACK.fullmatch(piece)
    return bytes([int(byte[1], 16)]) if byte else piece.replace(_SPACE, " ").encode()


def _chosen_start(content: Mapping[str, Any], named: str | None) -> str:
    """The token that stands before a text: as it was named, as the file's template has it, or by its usual names."""
    special = [one["content"] for one in content["added_tokens"] if one["special"]]
    first = _first_of_template(content.get("post_processor"))
    found = next((name for name in (named, first, *_STARTS) if name in special), None)
    if found is None:
        known = f"its special tokens are {listed(special[:8], last='and')}" if special else "it has no special token"
        raise DataError(
            f"nothing says which token stands before a text: {known}; put a tokenizer_config.json beside it that names "
            "one as bos_token"
        )
    return found


def _first_of_template(step: Any) -> str | None:
    """The special token that a file's template puts before a text."""
    if step is None:
        return None
    for one in step.get("processors", [step]):
        if one["type"] == "TemplateProcessing" and "SpecialToken" in one["single"][0]:
            return str(one["single"][0]["SpecialToken"]["id"])
    return None


def _template(name: str, token: int) -> dict[str, Any]:
    """What puts the start token before a text, for whoever asks for special tokens."""
    start, first, second = (
        {"SpecialToken": {"id": name, "type_id": 0}},
        {"Sequence": {"id": "A", "type_id": 0}},
        {"Sequence": {"id": "B", "type_id": 0}},
    )
    tokens = {name: {"id": name, "ids": [token], "tokens": [name]}}
    pair = [start, first, second]
    return {"type": "TemplateProcessing", "single": pair[:2], "pair": pair, "special_tokens": tokens}


# ---------------------------------------------------------------------------------------------- pieces of text


def _in_handfuls(texts: Iterable[bytes]) -> Iterator[list[bytes]]:
    """Texts in lists of about a piece's size together."""
    some: list[bytes] = []
    size = 0
    for text in texts:
        some.append(text)
        size += len(text)
        if size >= PIECE_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _cut(text: bytes, size: int) -> Iterator[bytes]:
    """A text in pieces of at most that size: after the last line feed, or between two characters."""
    first = 0
    while len(text) - first > size:
        stop = text.rfind(b"\n", first, first + size) + 1
        if stop <= first:
            stop = first + size
            while stop > first + size - 4 and text[stop] & 0xC0 == 0x80:
                stop -= 1
        yield text[first:stop]
        first = stop
    yield text[first:]


def _first_difference(text: bytes, other: bytes) -> str:
    at = next((n for n, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other)))
    return text[max(0, at - 8) : at + 8].decode("utf-8", "replace")
