"""Words and phrases that the project does not use, and what to write instead."""

from __future__ import annotations

import re
from collections.abc import Iterator

_INSTEAD = {
    r"told": "said, reported or passed",
    r"foretells?|foretold": "predicts",
    r"dearer|dearest": "slower, larger or more expensive",
    r"at hand": "available",
    r"of (?:its|their|his|her|your|our|my) own": "own, separate or custom",
    r"half as (?:much|many)(?: \w+)? again": "50 % more",
    r"(?:goes|go|went|going) on behind": "continues after",
    r"lesser": "smaller",
    r"can be had": "is available",
    r"(?:decides?|deciding) nothing": "is unused",
    r"need not to": "does not need to",
    r"and says? so": "and reports it",
    r"lest": "so that … not",
    r"thereof|therein|whereof|whence|thence": "of it, in it, from it",
}
_PHRASES = [
    (re.compile(rf"\b(?:{pattern})\b".replace(" ", r"\s+"), re.IGNORECASE), instead)
    for pattern, instead in _INSTEAD.items()
]
# A clause between two dashes is a sentence for itself.
_DASHES = re.compile(r"\s[–—]\s.*?\w.*?\s[–—]\s", re.DOTALL)


def banned_phrases(sentence: str) -> Iterator[tuple[int, str, str]]:
    """Yield place, phrase and remedy of each phrase that is not used."""
    for pattern, instead in _PHRASES:
        for match in pattern.finditer(sentence):
            yield match.start(), match[0], instead
    if clause := _DASHES.search(sentence):
        yield (
            clause.start(),
            clause[0].strip(),
            "a sentence without a clause between dashes",
        )
