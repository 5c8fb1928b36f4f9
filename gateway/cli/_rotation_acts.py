"""The acts of the play of rotations. Each waits for what it shows, never for luck."""

from pathlib import Path
from typing import Final

from gateway.cli._rotation_rehearsal import Rehearsal, keep
from gateway.simulator.folder import SANDBOX, SANDBOX_CLIENT_ID

_RING: Final = Path("keys", SANDBOX)


async def our_key(play: Rehearsal) -> None:
    """Our key changes: by a canary, then for all, then the old one goes."""
    play.begin_act(
        "Act 1: our key changes under traffic",
        "Generated, registered, tried on a share of the exchanges, activated; the old "
        "one is kept for an overlap, and goes by itself.",
    )
    await play.run("keys list")
    await play.run("keys generate", 2)
    public = await play.run("keys public 2", 2)
    await play.ask_alipayhk(
        f"/partners/{SANDBOX_CLIENT_ID}/2", public, "AlipayHK registers our version 2"
    )
    await play.run("keys activate 2 --canary 20%")
    await play.try_canary("2", 20)
    await play.run("keys activate 2 --canary 50%,100% --every 2s")
    await play.try_canary("2", 50)
    await play.try_canary("2", 100)
    await play.run("keys activate 2 --overlap 2s")
    await play.wait.destroyed("partner", "1")
    play.aside("the overlap is over: the gateway gave version 1 up by itself")
    await play.run("keys settle")
    await play.run("keys list")
    await play.wait.taken_up(_RING)
    await play.end_act(
        "Her code is the same as before, and so were the answers.",
        "gateway_keyring_generation",
        "gateway_signatures_total",
        "gateway_canary_exchanges_total",
    )


async def refused_key(play: Rehearsal) -> None:
    """AlipayHK does not know our new key: the gateway goes back by itself."""
    play.begin_act(
        "Act 2: AlipayHK refuses our next key, and the gateway goes back",
        "Version 3 is generated, and somebody forgets to register it.",
    )
    await play.run("keys generate", 2)
    await play.run("keys activate 3 --canary 20%")
    halt = await play.wait.event(
        lambda event: event["event"] == "canary_halted", "the way back"
    )
    play.aside(
        f"AlipayHK refused version 3 {halt['failures']} times; each time version "
        f"{halt['other_version']} repeated the exchange. Then the gateway went back."
    )
    await play.wait.halt_kept(_RING)
    view = await play.view(
        "gateway_canary_halted",
        "gateway_canary_share",
        "gateway_canary_exchanges_total",
        "gateway_repeats_total",
    )
    await play.run("keys list")
    await play.run("keys rollback")
    await play.wait.taken_up(_RING)
    await play.run("keys list")
    await play.end_act(
        "What AlipayHK refused was repeated before she had an answer.", view=view
    )


async def their_key(play: Rehearsal) -> None:
    """AlipayHK's key changes: both verify, until the old one goes."""
    play.begin_act(
        "Act 3: AlipayHK changes its own key",
        "Staged before AlipayHK signs with it, activated once it was seen.",
    )
    public = await play.ask_alipayhk("/keys/2", "", "AlipayHK announces its version 2")
    keep(Path("alipayhk-2.pem"), public)
    await play.run("keys import alipayhk-2.pem --version 2", 2)
    await play.run("keys stage 2 --platform")
    await play.wait.event(
        lambda event: "2" in str(event.get("verifies")), "version 2 staged"
    )
    await play.ask_alipayhk("/keys/2/active", "", "AlipayHK signs with it from now on")
    await play.wait.event(
        lambda event: event["event"] == "platform_key_first_seen", "its first answer"
    )
    play.aside("the first answer signed by version 2 was seen, and verified")
    await play.run("keys activate 2 --platform --overlap 1s")
    await play.wait.destroyed("platform", "1")
    play.aside("the overlap is over: nothing verifies by version 1 any more")
    await play.run("keys settle")
    await play.run("keys list")
    await play.wait.taken_up(_RING)
    await play.end_act(
        "She was told of none of it, and need not have been.",
        "gateway_keyring_generation",
        "gateway_verifications_total",
    )
