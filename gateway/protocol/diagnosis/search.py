"""The search for the bytes that were signed, among those that mistakes produce.

Single mistakes first, then pairs, so that the simplest explanation is the one found.
Bounded in count and in bytes, so that the worst message takes seconds.
"""

from collections.abc import Callable, Iterator
from itertools import chain, combinations, islice, product
from typing import Final, NamedTuple, TypeAlias

from gateway.protocol.diagnosis.bodies import body_variants, touched_up
from gateway.protocol.diagnosis.heads import (
    Layout,
    client_id_variants,
    layout_variants,
    method_variants,
    target_variants,
    time_variants,
)
from gateway.protocol.diagnosis.model import Capture, Diagnosis
from gateway.protocol.signature import base_of

MAX_CANDIDATES: Final = 20_000
MAX_BYTES: Final = 128 << 20

Diagnoses: TypeAlias = tuple[Diagnosis, ...]


class _Parts(NamedTuple):
    """What a signature base is put together from, and how."""

    method: str
    target: str
    client_id: str
    time: str
    body: bytes
    layout: Layout = base_of

    @property
    def base(self) -> bytes:
        return self.layout(
            self.method, self.target, self.client_id, self.time, self.body
        )


_Candidate: TypeAlias = tuple[Diagnoses, _Parts]


def search(capture: Capture, was_signed: Callable[[bytes], bool]) -> Diagnoses | None:
    """Find the mistakes that lead to the bytes that were signed.

    Args:
        capture: the message as it was captured.
        was_signed: tells whether these are the bytes.

    Returns:
        The mistakes; empty where the captured bytes were signed; None where no
        known mistake, nor two of them, explain the signature.
    """
    size = 0
    for diagnoses, parts in islice(_candidates(capture), MAX_CANDIDATES):
        base = parts.base
        if was_signed(base):
            return diagnoses
        size += len(base)
        if size > MAX_BYTES:
            return None
    return None


def _candidates(capture: Capture) -> Iterator[_Candidate]:
    parts = _Parts(
        capture.method, capture.target, capture.client_id, capture.time, capture.body
    )
    yield (), parts
    heads = [list(group) for group in _heads(capture, parts)]
    yield from chain.from_iterable(heads)
    yield from _bodies(capture, parts)
    yield from _pairs_of_bodies(capture, parts)
    for one in _bodies(capture, parts):  # not `product`: it would hold every body
        for other in chain.from_iterable(heads):
            yield _both(parts, one, other)
    for group, next_group in combinations(heads, 2):
        for one, other in product(group, next_group):
            yield _both(parts, one, other)


def _heads(capture: Capture, parts: _Parts) -> Iterator[Iterator[_Candidate]]:
    targets = target_variants(parts.target, capture.other_targets, capture.hosts)
    times = time_variants(parts.time, capture.other_times)
    ids = client_id_variants(parts.client_id, capture.other_client_ids)
    yield (((found,), parts._replace(target=value)) for found, value in targets)
    yield (((found,), parts._replace(time=value)) for found, value in times)
    yield (((found,), parts._replace(client_id=value)) for found, value in ids)
    yield (
        ((found,), parts._replace(method=value)) for found, value in method_variants()
    )
    yield (
        ((found,), parts._replace(layout=value)) for found, value in layout_variants()
    )


def _bodies(capture: Capture, parts: _Parts) -> Iterator[_Candidate]:
    seen = {hash(parts.body)}
    for found, body in body_variants(parts.body, capture.plaintext):
        if hash(body) not in seen:
            seen.add(hash(body))
            yield (found,), parts._replace(body=body)


def _pairs_of_bodies(capture: Capture, parts: _Parts) -> Iterator[_Candidate]:
    """Give bodies with two mistakes: re-serialised, say, and a newline added."""
    for first, changed in _bodies(capture, parts):
        for second, body in touched_up(changed.body):
            yield (*first, second), changed._replace(body=body)


def _both(parts: _Parts, one: _Candidate, other: _Candidate) -> _Candidate:
    """Make both changes, which are to different parts."""
    (first, left), (second, right) = one, other
    merged = _Parts._make(
        theirs if ours == before else ours
        for before, ours, theirs in zip(parts, left, right, strict=True)
    )
    return (*first, *second), merged
