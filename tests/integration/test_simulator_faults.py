"""Every fault of the simulator through the gateway, on real sockets, plain and encrypted.

The table of faults says what a right gateway makes of each; `test_untrusted_answers`
proves the same verdicts against an AlipayHK that shares no code with us.
"""

import json
import os
from datetime import UTC, datetime

import pytest

from gateway.simulator.alipayhk import AlipayHK
from gateway.simulator.faults import FAULTS, REFUSED, VERIFIED
from gateway.simulator.server import running as running_simulator
from tests import peer
from tests.integration.conftest import (
    House,
    running,
    write_config,
    write_private,
    write_ring,
)

ENCRYPT = [("Gateway-Encrypt", "true")]
SLOW_S = 2.0
OUTCOMES = {
    "upstream_timeout": ("unknown", 504),
    "upstream_disconnected": ("unknown", 502),
}


class _Port:
    def __init__(self, port):
        self.port = port


@pytest.fixture
def deadline_s(request):
    """Short where an answer is waited for in vain, and ample where it is large."""
    fault = getattr(request.node, "callspec", None)
    fault = fault and fault.params.get("fault")
    return 0.5 if fault and fault.expect == "upstream_timeout" else 20.0


@pytest.fixture
async def house(tmp_path, partner_key, platform_key, deadline_s):
    simulator = AlipayHK(
        keys={"1": platform_key},
        active="1",
        partners={peer.CLIENT_ID: {"1": partner_key.public_key()}},
        clock=lambda: datetime.now(UTC),
        entropy=os.urandom,
    )
    async with running_simulator(simulator, slow_s=SLOW_S) as where:
        house = House(tmp_path, _Port(where.listen[1]))
        house.simulator = simulator
        write_ring(house.ring, partner_key, platform_key)
        write_config(house, route={"timeout_s": deadline_s})
        async with running(house):
            yield house


def body(fault, request_id="0123456789abcdef0123456789abcdef"):
    return json.dumps(
        {
            "requestId": request_id,
            "contentId": f"simulate:{fault}",
            "contentType": "SKU",
            "contentStatus": 1,
            "contentInfo": "{}",
        }
    ).encode()


@pytest.mark.parametrize("encrypt", [[], ENCRYPT], ids=["plain", "encrypted"])
@pytest.mark.parametrize("fault", FAULTS.values(), ids=lambda fault: fault.name)
async def test_a_fault_ends_as_its_table_says(house, fault, encrypt):
    got = await house.caller.post(body(fault.name), headers=encrypt)
    expected = (fault.expect_encrypted if encrypt else None) or fault.expect
    assert house.exchanges[-1]["code"] == expected
    assert len(house.simulator.records) == 1
    if expected in (VERIFIED, REFUSED):
        assert got.header("Gateway-Verified") == str(expected == VERIFIED).lower()
        assert got.body
    else:
        outcome, status = OUTCOMES.get(expected, ("answered", 502))
        assert (got.code, got.status) == (expected, status)
        assert got.problem["outcome"] == outcome
        assert b'"resultStatus"' not in got.body


@pytest.mark.parametrize("encrypt", [[], ENCRYPT], ids=["plain", "encrypted"])
async def test_the_same_request_id_gets_the_same_answer(house, encrypt):
    first = await house.caller.post(body("unknown_exception"), headers=encrypt)
    second = await house.caller.post(body("unknown_exception"), headers=encrypt)
    assert first.body == second.body
    assert b"UNKNOWN_EXCEPTION" in first.body
    assert house.simulator.records[1].remarks == ()


async def test_the_simulator_finds_nothing_to_remark_on(house):
    await house.caller.post(body("none"))
    await house.caller.post(body("none", "x" * 32), headers=ENCRYPT)
    assert [record.remarks for record in house.simulator.records] == [(), ()]
    assert [record.result for record in house.simulator.records] == ["SUCCESS"] * 2


async def test_wrong_parameters_are_refused_by_name(house):
    got = await house.caller.post(b'{"requestId":"1"}')
    assert b"PARAM_ILLEGAL" in got.body
    assert b"contentId" in got.body
    assert got.header("Gateway-Verified") == "true"


async def test_a_key_that_alipayhk_does_not_know_is_an_unsigned_refusal(
    house, other_key
):
    (house.ring / "partner-1.pem").unlink()
    write_private(house.ring / "partner-1.pem", other_key)
    await house.seen(lambda: len(house.events("keyring_loaded")) > 1, "no new ring")
    got = await house.caller.post(body("none"))
    assert got.header("Gateway-Verified") == "false"
    assert json.loads(got.body)["resultInfo"]["resultStatus"] == "F"
