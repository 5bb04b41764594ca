"""American spelling: finds British words and gives the American ones."""

from __future__ import annotations

import re
from collections.abc import Iterator

# Verbs in -ise, without that ending. Words such as "raise" and "noise" rule out a
# general pattern.
_VERBS = (
    "amort|anonym|apolog|author|binar|canonical|capital|categor|central|character"
    "|color|critic|crystall|custom|digit|discret|emphas|equal|external|factor"
    "|familiar|final|formal|general|harmon|initial|internal|item|legal|linear"
    "|local|material|maxim|mechan|memor|minim|modern|neutral|normal|optim|organ"
    "|parallel|parametr|penal|polar|popular|priorit|quant|random|rational|real"
    "|recogn|regular|sanit|scrutin|serial|special|stabil|standard|summar|symbol"
    "|symmetr|synchron|systemat|token|trivial|util|vector|virtual|visual"
)
_ISE = re.compile(rf"([a-z]*(?:{_VERBS})i)s(e[ds]?|ers?|ing|ations?|ational|able)")
_YSE = re.compile(r"((?:anal|catal|paral|electrol)y)s(e|ed|ers?|ing|able)")
_WORDS = {
    "amongst": "among",
    "armour": "armor",
    "artefact": "artifact",
    "behaviour": "behavior",
    "centre": "center",
    "centred": "centered",
    "centring": "centering",
    "channelled": "channeled",
    "colour": "color",
    "defence": "defense",
    "favour": "favor",
    "fibre": "fiber",
    "flavour": "flavor",
    "focussed": "focused",
    "grey": "gray",
    "harbour": "harbor",
    "honour": "honor",
    "judgement": "judgment",
    "labelled": "labeled",
    "labelling": "labeling",
    "labour": "labor",
    "learnt": "learned",
    "levelled": "leveled",
    "licence": "license",
    "litre": "liter",
    "metre": "meter",
    "modelled": "modeled",
    "modelling": "modeling",
    "neighbour": "neighbor",
    "offence": "offense",
    "practise": "practice",
    "rigour": "rigor",
    "rumour": "rumor",
    "sceptic": "skeptic",
    "signalled": "signaled",
    "signalling": "signaling",
    "theatre": "theater",
    "totalled": "totaled",
    "travelled": "traveled",
    "vapour": "vapor",
    "vigour": "vigor",
    "whilst": "while",
}
_LONGEST_FIRST = sorted(_WORDS, key=len, reverse=True)
_STEM = re.compile(rf"([a-z]*)({'|'.join(_LONGEST_FIRST)})([a-z]*)")
# Parts of an identifier: `numBins`, `NUM_BINS` and `num_bins` have two each.
_PART = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def american(word: str) -> str | None:
    """Return how a British word is written in American English, or None.

    >>> american("quantised"), american("Neighbours"), american("noise")
    ('quantized', 'Neighbors', None)
    """
    lower = word.lower()
    if match := _ISE.fullmatch(lower) or _YSE.fullmatch(lower):
        found = f"{match[1]}z{match[2]}"
    elif match := _STEM.fullmatch(lower):
        found = f"{match[1]}{_WORDS[match[2]]}{match[3]}"
    else:
        return None
    if word.isupper():
        return found.upper()
    return found.capitalize() if word[0].isupper() else found


def british_words(text: str) -> Iterator[tuple[int, str, str]]:
    """Yield place and British word in a text or identifier, and the American one."""
    for part in _PART.finditer(text):
        if (better := american(part[0])) is not None:
            yield part.start(), part[0], better
