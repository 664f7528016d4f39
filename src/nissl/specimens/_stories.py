"""Short stories in plain English whose people, places and things come back, so that a longer memory is worth having."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from nissl.errors import InputError

_SHE = ("anna", "clara", "edith", "grace", "irene", "mary", "nora", "olive")
_HE = ("adam", "ben", "frank", "henry", "jack", "martin", "peter", "tom")
_JOBS = ("baker", "carpenter", "doctor", "farmer", "gardener", "miller", "painter", "sailor", "singer", "teacher")
_PLACES = ("bridge", "castle", "church", "garden", "harbour", "lake", "market", "mill", "school", "station")
_COLOURS = ("black", "blue", "brown", "green", "grey", "red", "white", "yellow")
_THINGS = ("bag", "basket", "book", "boat", "clock", "coat", "cup", "hat", "key", "lamp", "letter", "ring")
_ANIMALS = ("cat", "cow", "dog", "duck", "goat", "goose", "horse", "sheep")
_MOODS = ("glad", "quiet", "sad", "tired", "worried")

_OPENINGS = (
    "{who} is a {job} who lives by the {place} .",
    "by the {place} lives {who} the {job} .",
    "once there was a {job} named {who} who lived near the {place} .",
)
_MIDDLES = (
    "every morning {who} takes the {colour} {thing} and walks to the {place} .",
    "{friend} is an old friend of {who} and comes to the {place} as well .",
    "{who} has a {animal} that sleeps beside the {colour} {thing} all day .",
    "one evening {who} could not find the {thing} and asked {friend} for help .",
    "the {animal} of {who} ran away from {friend} and hid near the {place} .",
    "{friend} said that the {thing} of {who} was the best one in the town .",
    "{who} was {mood} and gave the {colour} {thing} to {friend} for a week .",
    "at night {friend} and {who} sat at the {place} with the {animal} .",
    "{friend} wanted to be a {job} like {who} and asked {them} to explain the work .",
    "then {who} told {friend} how {they} had bought the {colour} {thing} at the {place} .",
    "a stranger came to the {place} and asked {who} if {they} would sell the {animal} .",
    "but {they} only laughed and put the {colour} {thing} back where it belongs .",
)


@dataclass(frozen=True)
class Stories:
    """Stories as tokens, a word a token.

    Attributes
    ----------
    ids : Int[np.ndarray, "story position"]
        Words, each story cut to the same length from its beginning.
    words
        The vocabulary: `words[i]` is token i.
    """

    ids: Int[np.ndarray, "story position"]
    words: tuple[str, ...]

    def text(self, story: int) -> str:
        """One story as text."""
        return " ".join(self.words[i] for i in self.ids[story])


def stories(n: int, length: int = 65, *, seed: int = 0) -> Stories:
    """Stories drawn from templates: a person, a friend, a place, a thing and an animal are met early and come back.

    Parameters
    ----------
    n
        Stories.
    length
        Words in each, full stops among them.
    seed
        Of the draw.

    Raises
    ------
    InputError
        No stories or no words.

    Examples
    --------
    >>> found = stories(2, 12)
    >>> found.ids.shape, len(found.words)
    ((2, 12), 150)
    """
    if n < 1 or length < 1:
        raise InputError(f"n={n}, length={length}; at least one story and one word")
    rng = np.random.default_rng(seed)
    words = vocabulary()
    number = {word: i for i, word in enumerate(words)}
    ids = np.empty((n, length), dtype=np.int64)
    for row in ids:
        row[:] = [number[word] for word in _story(rng, length)]
    return Stories(ids, words)


def vocabulary() -> tuple[str, ...]:
    """Every word that a story can hold, in alphabetical order."""
    fixed = {w for line in (*_OPENINGS, *_MIDDLES) for w in line.split() if not w.startswith("{")}
    drawn = {w for group in (_SHE, _HE, _JOBS, _PLACES, _COLOURS, _THINGS, _ANIMALS, _MOODS) for w in group}
    return tuple(sorted(fixed | drawn | {"she", "he", "her", "him"}))


def _story(rng: np.random.Generator, length: int) -> list[str]:
    names = rng.permutation(_SHE + _HE)
    female = names[0] in _SHE
    cast = {
        "who": names[0], "friend": names[1], "they": "she" if female else "he", "them": "her" if female else "him",
        "job": rng.choice(_JOBS), "place": rng.choice(_PLACES), "colour": rng.choice(_COLOURS), "thing": rng.choice(_THINGS),
        "animal": rng.choice(_ANIMALS), "mood": rng.choice(_MOODS),
    }  # fmt: skip
    told = str(rng.choice(_OPENINGS)).format(**cast).split()
    while len(told) < length:
        for line in rng.permutation(_MIDDLES):
            told += str(line).format(**cast).split()
    return told[:length]
