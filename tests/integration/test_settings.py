"""Settings of a client that change what goes over the wire."""

import re

from cryptography.hazmat.primitives.asymmetric import padding

from tests import peer
from tests.integration.test_exchange import unquoted

ENCRYPT = [("Gateway-Encrypt", "true")]


async def test_the_requests_content_key_decrypts_where_that_is_set(
    run_house, platform_key
):
    async with run_house(client={"reuse_content_key": True}) as house:

        def with_the_requests_key(request):
            field = re.search("symmetricKey=(.*)", request.header("Encrypt"))[1]
            key = platform_key.decrypt(unquoted(field), padding.PKCS1v15())
            reply = house.wallet.signed(request, peer.seal(peer.SUCCESS, key))
            nobodys = peer.encrypt_header(b"x" * 256)
            reply.headers.append(("Encrypt", nobodys))
            return reply

        house.wallet.answer = with_the_requests_key
        assert (await house.caller.post(headers=ENCRYPT)).body == peer.SUCCESS
        house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
        got = await house.caller.post(headers=ENCRYPT)
        assert got.code == "decryption_failed"
        plain = await house.caller.post()
        assert plain.body == peer.SUCCESS


async def test_key_versions_content_type_and_time_offset_are_sent_as_set(run_house):
    client = {
        "send_key_version": False,
        "encrypted_content_type": "text/plain; charset=UTF-8",
        "time_offset": "+00:00",
    }
    async with run_house(client=client) as house:
        house.wallet.answer = lambda r: house.wallet.encrypted(r, peer.SUCCESS)
        got = await house.caller.post(headers=ENCRYPT)
    (arrived,) = house.wallet.arrived
    assert got.body == peer.SUCCESS
    assert arrived.header("Signature").startswith("algorithm=RSA256,signature=")
    assert arrived.header("Encrypt").startswith("algorithm=RSA_AES,symmetricKey=")
    assert arrived.header("Content-Type") == "text/plain; charset=UTF-8"
    assert arrived.header("Request-Time").endswith("+00:00")


async def test_the_trace_header_is_known_by_each_of_its_names(house):
    for name in ("Tracer-Id", "tracerId", "Trace-Id"):

        def answer(request, name=name):
            reply = house.wallet.success(request)
            reply.headers = [
                (name if key == "Tracer-Id" else key, value)
                for key, value in reply.headers
            ]
            return reply

        house.wallet.answer = answer
        got = await house.caller.post()
        assert got.header("Tracer-Id") == "tracer0001"


async def test_the_trace_id_of_an_untrusted_answer_is_logged(house):
    house.wallet.answer = lambda r: house.wallet.signed(r, peer.SUCCESS, version="9")
    await house.caller.post()
    assert house.exchanges[0]["tracer_id"] == "tracer0001"
