"""A configuration as digests, to tell one from another without showing it."""

import hashlib
import json

from gateway.config.sections import Settings
from gateway.documents import Section


def digest_of(section: Section) -> str:
    """Give the SHA-256, in hex, of all values of a section, defaults included."""
    values = section.model_dump(mode="python")
    text = json.dumps(values, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def policy_change(
    before: Settings, after: Settings
) -> tuple[dict[str, object], dict[str, object]] | None:
    """Give what of the policy differs: the mode, and the callers that are not equal.

    Each caller by its name, with the digest of its entry; who is not there is missing.
    """
    old, new = (
        {each.name: digest_of(each) for each in s.callers} for s in (before, after)
    )
    differ = {name for name in {*old, *new} if old.get(name) != new.get(name)}
    if not differ and before.policy is after.policy:
        return None
    return (
        _facts(before, {name: old[name] for name in sorted(differ & {*old})}),
        _facts(after, {name: new[name] for name in sorted(differ & {*new})}),
    )


def _facts(settings: Settings, callers: dict[str, str]) -> dict[str, object]:
    return {"policy": str(settings.policy), "callers": callers}
