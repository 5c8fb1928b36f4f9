"""What no single value of a config.yaml can show: names, addresses, bounds that clash.

All of it is found in the raw tree, so that a mistake in one place hides none in
another.
"""

import difflib
from collections.abc import Iterable, Iterator
from typing import Final

from gateway.config.sections import Admin, Inbound
from gateway.config.values import NAME, Listen, parse_listen
from gateway.documents import Finding, Location, Tree

_MAX_LISTED: Final = 8

_OPEN_INBOUND: Final = (
    "other machines can reach this address, and no callers are named: any of them "
    "could have its requests signed. Name who may call under callers "
    "(`gateway callers new NAME`), or listen on 127.0.0.1 or unix:PATH"
)
_OPEN_ADMIN: Final = (
    "other machines can reach this address: name who may ask in admin.tokens "
    "(`gateway callers new NAME` makes one), give admin.tls a client_ca, or listen on "
    "127.0.0.1 or unix:PATH"
)


def check_references(tree: Tree) -> Iterator[Finding]:
    """Find addresses that clash or are open, and names that nothing or two have."""
    if not isinstance(tree, dict):
        return
    yield from _empty(tree)
    yield from _clashes(tree)
    yield from _open_doors(tree)
    yield from _repeated("clients", "name", texts(tree, "clients", "name"))
    yield from _repeated("callers", "name", texts(tree, "callers", "name"))
    yield from _strangers(tree)
    yield from _certificates(tree)
    yield from _shared_tokens(tree)
    owners = dict(texts(tree, "routes", "client"))
    paths = [
        (index, f"{path} {owners[index]}")
        for index, path in texts(tree, "routes", "path")
        if index in owners
    ]
    yield from _repeated("routes", "path", paths)


def texts(tree: Tree, section: str, key: str) -> list[tuple[int, str]]:
    """Give the texts under `key` in a list's entries, each with its index."""
    return [
        (index, entry[key])
        for index, entry in enumerate(entries(tree, section))
        if isinstance(entry, dict) and isinstance(entry.get(key), str)
    ]


def entries(tree: Tree, section: str) -> list[Tree]:
    """Give a list's entries; none where it is no list."""
    found = tree.get(section) if isinstance(tree, dict) else None
    return found if isinstance(found, list) else []


def _empty(tree: Tree, place: Location = ()) -> Iterator[Finding]:
    """Find keys without a value: an empty `rate:` must not mean that there is none."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if value is None:
                message = "has no value; write one, or take the key out"
                yield Finding((*place, key), message)
            yield from _empty(value, (*place, key))
    elif isinstance(tree, list):
        for index, value in enumerate(tree):
            yield from _empty(value, (*place, index))


def _clashes(tree: Tree) -> Iterator[Finding]:
    inbound, admin = _listen(tree, "inbound"), _listen(tree, "admin")
    if inbound is None or admin is None or not inbound.meets(admin):
        return
    # A default has no place in the file; two defaults do not clash.
    ours, other = ("admin", "inbound") if "admin" in tree else ("inbound", "admin")
    message = f"is the port of {other}.listen too; give each a port of its own"
    yield Finding((ours, "listen"), message)


def _open_doors(tree: Tree) -> Iterator[Finding]:
    inbound, admin = _listen(tree, "inbound"), _listen(tree, "admin")
    if inbound is not None and not inbound.is_loopback and not tree.get("callers"):
        yield Finding(("inbound", "listen"), _OPEN_INBOUND)
    section = tree.get("admin")
    if admin is None or admin.is_loopback or not isinstance(section, dict):
        return
    if not section.get("tokens") and not _asks_for_certificates(section):
        yield Finding(("admin", "listen"), _OPEN_ADMIN)


def _listen(tree: Tree, section: str) -> Listen | None:
    """Give a section's address, by default too; None where it cannot be read."""
    part = tree.get(section, {})
    default = (
        (Inbound if section == "inbound" else Admin).model_fields["listen"].default
    )
    try:
        return (
            parse_listen(part.get("listen", default))
            if isinstance(part, dict)
            else None
        )
    except ValueError:
        return None


def _asks_for_certificates(section: Tree) -> bool:
    tls = section.get("tls") if isinstance(section, dict) else None
    return isinstance(tls, dict) and bool(tls.get("client_ca"))


def _strangers(tree: Tree) -> Iterator[Finding]:
    """Find clients and paths that are named and not there."""
    clients = _names(tree, "clients", "name")
    paths = _names(tree, "routes", "path")
    for index, client in texts(tree, "routes", "client"):
        yield from _stranger("client", client, clients, ("routes", index, "client"))
    for key, kind, known in (
        ("clients", "client", clients),
        ("routes", "route", paths),
    ):
        for place, name in _listed_texts(tree, key):
            yield from _stranger(kind, name, known, place)


def _names(tree: Tree, section: str, key: str) -> list[str]:
    """Give the names that a section's entries have.

    None while one has no name, or a bad one: whoever names an unknown one may well
    mean that entry, and one mistake is told once.
    """
    names = [name for _, name in texts(tree, section, key)]
    plain = [name for name in names if _is_plain(name)]
    return plain if len(plain) == len(entries(tree, section)) else []


def _listed_texts(tree: Tree, key: str) -> Iterator[tuple[Location, str]]:
    """Give the texts in the lists under `key` of all callers."""
    for index, caller in enumerate(entries(tree, "callers")):
        listed = caller.get(key) if isinstance(caller, dict) else None
        for place, text in enumerate(listed if isinstance(listed, list) else ()):
            if isinstance(text, str):
                yield ("callers", index, key, place), text


def _stranger(
    kind: str, name: str, known: list[str], place: Location
) -> Iterator[Finding]:
    if not known or name in known:
        return
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {_listed(known)}"
    has = "name" if kind == "client" else "path"
    yield Finding(place, f"no {kind} has this {has}; {hint}")


def _is_plain(text: str) -> bool:
    """Tell whether a name or path is fit to be quoted: short, and without tricks."""
    return bool(NAME.fullmatch(text.strip("/").replace("/", ".")))


def _listed(names: Iterable[str]) -> str:
    unique = list(dict.fromkeys(names))
    more = len(unique) - _MAX_LISTED
    listed = ", ".join(unique[:_MAX_LISTED])
    return f"{listed} and {more} more" if more > 0 else listed


def _certificates(tree: Tree) -> Iterator[Finding]:
    """Find callers that are to show a certificate where none is asked for."""
    if _asks_for_certificates(tree.get("inbound")):
        return
    for index, _ in texts(tree, "callers", "client_certificate"):
        place = ("callers", index, "client_certificate")
        yield Finding(place, "nobody can show one: inbound.tls has no client_ca")


def _shared_tokens(tree: Tree) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, caller in enumerate(entries(tree, "callers")):
        given = caller.get("token_sha256") if isinstance(caller, dict) else None
        listed = given if isinstance(given, list) else [given]
        digests = {each.lower() for each in listed if isinstance(each, str)}
        if seen & digests:
            message = "is another caller's token too; give each its own"
            yield Finding(("callers", index, "token_sha256"), message)
        seen |= digests


def _repeated(
    section: str, key: str, items: list[tuple[int, str]]
) -> Iterator[Finding]:
    seen: set[str] = set()
    for index, text in items:
        if text in seen:
            message = "stands twice: one of them could never be meant"
            yield Finding((section, index, key), message)
        seen.add(text)
