"""Masking before the log, because the log is storage too: hash, constant or drop, by field path.

A path is names joined by dots (`traits.email`); `*` stands for any name, and lists are walked through without being named.
Where a path leads into something that is neither object nor list, that value itself is masked: a sender that puts a text
where an object belongs does not get around the mask.
"""

import hmac
import os
from collections.abc import Mapping, Sequence
from typing import Any

from headwater.collect.settings import CollectSettings, MaskKind
from headwater.errors import ConfigError

CONSTANT = "masked"

NOBODY = frozenset({"", "null", "none", "undefined", "nan", "anonymous", "-1"})
"""Texts that stand for no value: they are stored as null, because their hash would make one person of everybody."""


class Mask:
    """The masking rules of one source. `apply` is idempotent for constants and drops, and not for hashes."""

    def __init__(self, rules: Mapping[str, MaskKind], key: bytes | None, version: int = 1) -> None:
        self._rules = [(tuple(path.split(".")), kind) for path, kind in rules.items() if kind != "plain"]
        self._key = key
        self._prefix = "" if version == 1 else f"v{version}:"

    def __bool__(self) -> bool:
        return bool(self._rules)

    def apply(self, item: dict[str, Any]) -> None:
        """Mask an event in place."""
        for path, kind in self._rules:
            self._walk(item, path, kind)

    def hash(self, value: Any) -> str | None:
        """HMAC-SHA256, in hexadecimal, of the value as a text, trimmed and in lower case: the same as of a masked column of a
        file. A whole number is the same with a fraction of nought as without.

        Null for values that stand for nobody.
        """
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        text = (value if isinstance(value, str) else str(value)).strip(" \t\n\r").lower()
        if text in NOBODY or not text.strip("0-"):
            return None
        return self._prefix + hmac.digest(self._key or b"", text.encode(), "sha256").hex()

    def _walk(self, holder: Any, path: tuple[str, ...], kind: MaskKind) -> None:
        if isinstance(holder, list):
            for index, value in enumerate(holder):
                if isinstance(value, dict | list):
                    self._walk(value, path, kind)
                else:
                    holder[index] = self._masked(value, kind)
            return
        names = list(holder) if path[0] == "*" else [path[0]] if path[0] in holder else []
        for name in names:
            value = holder[name]
            if len(path) > 1 and isinstance(value, dict | list):
                self._walk(value, path[1:], kind)
            elif kind == "drop":
                del holder[name]
            else:
                holder[name] = self._masked(value, kind)

    def _masked(self, value: Any, kind: MaskKind) -> Any:
        if value is None or kind == "drop":
            return None
        if kind == "constant":
            return CONSTANT
        if isinstance(value, dict):
            return {name: self._masked(inner, kind) for name, inner in value.items()}
        if isinstance(value, list):
            return [self._masked(inner, kind) for inner in value]
        return self.hash(value)


def key_for(
    hashed: Sequence[str], settings: CollectSettings, whose: str, environment: Mapping[str, str]
) -> bytes | None:
    """The key of hashed fields. Raises ConfigError, naming what of `whose` is to be hashed, when there is something and no key."""
    key = environment.get(settings.mask_key_env, "").encode() or None
    if hashed and key is None:
        raise ConfigError(
            f"{whose}: {', '.join(hashed)} are to be hashed, but {settings.mask_key_env} is not set in the environment. "
            "Set it to a long random text (keep it: another key gives other hashes), or use `constant` or `drop`"
        )
    return key


def load(settings: CollectSettings) -> dict[str, Mask]:
    """The masks of all sources, by source. Raises ConfigError when something is to be hashed and there is no key."""
    hashed = [
        f"{source.name}: {path}" for source in settings.sources for path, kind in source.mask.items() if kind == "hash"
    ]
    key = key_for(hashed, settings, "headwater.yml", os.environ)
    return {source.name: Mask(source.mask, key, settings.mask_key_version) for source in settings.sources}
