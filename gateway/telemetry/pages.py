"""What several workers tell of themselves, as one gateway tells it."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

Page: TypeAlias = dict[str, Any]
"""As `Inventory.page` gives it, and JSON holds it: docs/operations.md has the form."""

Which: TypeAlias = tuple[str, str, str, tuple[str, ...]]
"""Client, section, version and uses of a key: of a split pair there are two."""


def told_by(texts: Mapping[int, Sequence[str]]) -> list[str]:
    """Give what workers say: once what all say, else with the worker's number.

    Args:
        texts: what each says, by its number.
    """
    said = dict.fromkeys(text for each in texts.values() for text in each)
    found: list[str] = []
    for text in said:
        who = [number for number, each in texts.items() if text in each]
        if len(who) == len(texts):
            found.append(text)
        else:
            found += [f"worker {number}: {text}" for number in who]
    return found


class Usages:
    """What the keys of workers did that are gone."""

    def __init__(self) -> None:
        self._gone: dict[Which, Page] = {}

    def add(self, page: Page) -> None:
        """Keep what a worker told last."""
        for which, key in _keys_of(page):
            before = self._gone.get(which)
            self._gone[which] = key if before is None else _both(key, before)

    def together(self, pages: Sequence[Page]) -> Page:
        """Give one page of those of all that live.

        What a key is comes from the worker with the oldest ring; what it did, from all,
        as long as they mean the same key.
        """
        self._forget(pages)
        clients = [
            self._client(name, [_client_of(page, name) for page in pages])
            for name in dict.fromkeys(
                each["client"] for page in pages for each in page["clients"]
            )
        ]
        return {
            "time": max(page["time"] for page in pages),
            "counted_since": min(page["counted_since"] for page in pages),
            "clients": clients,
        }

    def _forget(self, pages: Sequence[Page]) -> None:
        """Forget keys that left their ring."""
        present = {which for page in pages for which, _ in _keys_of(page)}
        known = {client for client, *_ in present}
        self._gone = {
            which: key
            for which, key in self._gone.items()
            if which in present or which[0] not in known
        }

    def _client(self, name: str, told: Sequence[Page | None]) -> Page:
        entries = [each for each in told if each is not None]
        oldest = min(entries, key=lambda each: each["generation"] or math.inf)
        keys = [
            self._key(name, key, [each for each in entries if each is not oldest])
            for key in oldest["keys"]
        ]
        return {**oldest, "keys": keys}

    def _key(self, client: str, key: Page, others: Sequence[Page]) -> Page:
        which = _which(client, key)
        same = [
            each
            for other in others
            for each in other["keys"]
            if _which(client, each) == which
        ]
        if which in self._gone:
            same.append(self._gone[which])
        for each in same:
            key = _both(key, each)
        return key


def _client_of(page: Page, name: str) -> Page | None:
    return next((each for each in page["clients"] if each["client"] == name), None)


def _keys_of(page: Page) -> Iterable[tuple[Which, Page]]:
    for client in page["clients"]:
        for key in client["keys"]:
            yield _which(client["client"], key), key


def _which(client: str, key: Page) -> Which:
    return client, key["section"], key["version"], tuple(key["uses"])


def _both(key: Page, other: Page) -> Page:
    """Give a key with what another worker has seen it do, if it is the same key."""
    known = key["fingerprint"] or other["fingerprint"]
    if other["fingerprint"] not in (None, known):
        return key
    operations = {
        use: key["operations"].get(use, 0) + other["operations"].get(use, 0)
        for use in key["uses"]
        if use in key["operations"] or use in other["operations"]
    }
    return {
        **key,
        "fingerprint": known,
        "used": key["used"] + other["used"],
        "operations": operations,
        "first_used": _of(min, key, other, "first_used"),
        "last_used": _of(max, key, other, "last_used"),
        "first_seen": _of(min, key, other, "first_seen"),
    }


def _of(
    pick: Callable[[Iterable[str]], str], key: Page, other: Page, name: str
) -> str | None:
    """Pick one of two moments; as text they are in the order of time."""
    moments = [each[name] for each in (key, other) if each[name] is not None]
    return pick(moments) if moments else None
