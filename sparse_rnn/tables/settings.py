"""The overrides of a run by the key that they set, so that later ones replace earlier ones."""

from collections.abc import Iterable
from itertools import chain

from sparse_rnn.core.conf import SHORTHANDS

Settings = dict[str, str]  # key_of(override): override


def merged(*layers: Iterable[str]) -> Settings:
    """Overrides by their key; a later one replaces an earlier one of the same key."""
    merged: Settings = {}
    for override in chain(*layers):
        key = key_of(override)
        merged.pop(key, None)  # a key that is set again moves to the end, as on a command line
        merged[key] = override
    return merged


def key_of(override: str) -> str:
    """The key that an override sets, adds (+key) or removes (~key): `optimizer` for `optimizer@here=adam`."""
    key = override.lstrip("+~").partition("=")[0].partition("@")[0].strip()
    return SHORTHANDS.get(key, key)
