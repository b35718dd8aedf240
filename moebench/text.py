"""Text for messages: made safe to print, quoted, listed, and the nearest known word to one that is not known.

What comes from files that others wrote may hold anything; nothing of it reaches a terminal or a page unescaped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePath


def plain(value: object, *, most: int | None = None) -> str:
    """Words that may come from anyone as one line: cut after `most` characters, what does not print escaped.

    So that no file can clear a screen, turn text round or forge a line of its own.
    """
    text = re.sub(r"\s*\n\s*", " ", str(value).strip())
    if most is not None and len(text) > most:
        text = text[: most - 3] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def cut(value: object) -> str:
    """A value as it is shown in advice: what is beyond 60 characters is left out."""
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."


_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""Control characters but tab and newline, line and paragraph separators, and marks that turn the direction of text."""


def visible(text: str) -> str:
    """Text of several lines in which what acts on a screen or page instead of being seen is escaped as `\\u202e`.

    The escapes are also those of JSON, so that a JSON text still says the same.
    """
    return _UNSEEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def quoted(value: object) -> str:
    """A value as it is shown in a message: in quotes, and cut when long."""
    return repr(cut(value))


def listed(words: Sequence[str], *, last: str = "or") -> str:
    """`a, b or c`; a long list is cut and says how many more there are."""
    if len(words) > 20:
        return f"{', '.join(words[:20])} and {len(words) - 20} more"
    if len(words) < 2:
        return "".join(words) or "none"
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def closest(word: object, known: Iterable[str]) -> str | None:
    """The known word most like `word`, or None when none is like it.

    A word that holds all of it (`topk` in `softmax_topk`) is nearer than one that differs by some letters (`top_p`).
    """
    by_lower = {name.lower(): name for name in known}
    asked = str(word)[:100].lower()
    if asked in by_lower:
        return by_lower[asked]
    parts = [name for name in by_lower if len(asked) >= 3 and asked in _endings(name)]
    likely = parts or difflib.get_close_matches(asked, by_lower, n=1, cutoff=0.6)
    if not likely and len(asked) >= 3:
        likely = [name for name in by_lower if name.startswith(asked)]
    return by_lower[likely[0]] if likely else None


def _endings(name: str) -> set[str]:
    """What follows a dot or an underscore: `bits_per_byte`, `per_byte` and `byte` of `test.bits_per_byte`."""
    return {name[mark.end() :] for mark in re.finditer(r"[._]", name)}


def nearest(word: object, known: Iterable[str]) -> str | None:
    """A hint that names the known word most like `word`, or None when none is like it."""
    found = closest(word, known)
    return f"did you mean {found!r}?" if found is not None else None


def shown_path(path: str) -> str:
    """A path for a reader elsewhere: its last part where it begins at this machine's root or at somebody's home."""
    return PurePath(path).name if path.startswith(("/", "~")) or PurePath(path).is_absolute() else path
