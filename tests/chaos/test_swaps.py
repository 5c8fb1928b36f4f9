"""Keys and certificates that are swapped all the time, and cost no exchange."""

import asyncio
import json
import re
import shutil
import ssl
from base64 import b64decode
from contextlib import closing
from itertools import count
from urllib.parse import unquote

import pytest
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding

from gateway.keys import formats
from tests import peer
from tests.chaos.conftest import answer_for, body_for, busy
from tests.integration.caller import read_answer
from tests.integration.conftest import write_private
from tests.integration.test_tls import certificate

SWAPS = 500
LOOK_S = 0.01
"""How often files are looked at here, that so many swaps take no half hour."""

CALLERS = 2
RING = """\
generation: {new}
partner:
  - {{version: "{old}", state: deactivated, key: partner-{old}.pem}}
  - {{version: "{new}", state: active, key: partner-{new}.pem}}
platform:
  - {{version: "{old}", state: deactivated, key: platform-{old}.pem}}
  - {{version: "{new}", state: active, key: platform-{new}.pem}}
"""


class Rotation:
    """Three keys of each party that take turns under ever new versions.

    Version 1 and the ring that has it are those of `run_house`.
    """

    def __init__(self, folder, ours, theirs):
        self.ours, self.theirs = ours, theirs
        self.ring = folder / "ring"
        self._folder = folder

    def partner(self, version):
        return self.ours[version % 3]

    def platform(self, version):
        return self.theirs[version % 3]

    def lay_out(self, folder, new):
        """Write a ring in which `new` follows on the version before."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for version in (new - 1, new):
            if not (folder / f"partner-{version}.pem").exists():
                write_private(folder / f"partner-{version}.pem", self.partner(version))
            (folder / f"platform-{version}.pem").write_text(
                formats.public_pem(self.platform(version).public_key())
            )
        text = RING.format(new=new, old=new - 1)
        # Whoever looks now finds half a manifest, and a while later the whole one.
        (folder / "keyring.yaml").write_text(text[: len(text) // 2])
        return text

    async def swap(self, new):
        """Bring in a ring: by a symbolic link, or file by file in the folder itself."""
        if new % 3:
            target = self._folder / f"ring-{new}"
            text = self.lay_out(target, new)
            (target / "keyring.yaml").write_text(text)
            before = self.ring.resolve()
            link = self._folder / "ring.new"
            link.symlink_to(target.name)
            if not self.ring.is_symlink():  # the first time
                self.ring.rename(self._folder / "ring-1")
            link.replace(self.ring)
            if before != self.ring.resolve() and before.name != "ring":
                shutil.rmtree(before)
        else:
            text = self.lay_out(self.ring, new)
            await asyncio.sleep(2 * LOOK_S)  # long enough for half of it to be seen
            (self.ring / "keyring.yaml").write_text(text)


class Pki:
    """An authority, and pairs of it that take turns in the same two files."""

    def __init__(self, folder, keys, authority_key):
        self._folder = folder
        self._pairs = {}
        authority = certificate("Test CA", authority_key)
        (folder / "ca.crt").write_bytes(authority.public_bytes(Encoding.PEM))
        for name, host in (
            ("wallet", "localhost"),
            ("gateway", "gateway"),
            ("us", None),
        ):
            self._pairs[name] = [
                (
                    certificate(
                        f"{name}-{number}",
                        key,
                        issuer=authority,
                        issuer_key=authority_key,
                        host=host,
                    ).public_bytes(Encoding.PEM),
                    formats.private_pem(key),
                )
                for number, key in enumerate(keys)
            ]
            self._put(name, *self._pairs[name][0])

    async def swap(self, name, turn):
        """Write a pair in place; now and then the two do not match for a while."""
        shown, private = self._pairs[name][turn % len(self._pairs[name])]
        if turn % 10 == 0:
            (self._folder / f"{name}.crt").write_bytes(shown)
            await asyncio.sleep(4 * LOOK_S)  # long enough to be seen
        self._put(name, shown, private)

    def _put(self, name, shown, private):
        (self._folder / f"{name}.crt").write_bytes(shown)
        file = self._folder / f"{name}.key"
        file.touch(mode=0o600)
        file.write_bytes(private)


def answering(rotation, wallet, seen):
    """Answer under the version that the request names, or the one before."""
    turns = count()

    def version_in(header):
        return int(re.search(r"keyVersion=(\d+)", header)[1])

    def answer(request):
        signed_by = version_in(request.header("Signature"))
        seen.add(signed_by)
        base = peer.signature_base(
            target=request.target,
            client_id=request.header("Client-Id"),
            time=request.header("Request-Time"),
            body=request.body,
        )
        given = unquote(request.header("Signature").partition("signature=")[2])
        rotation.partner(signed_by).public_key().verify(
            b64decode(given), base, padding.PKCS1v15(), peer.hashes.SHA256()
        )
        turn = next(turns)
        version = max(1, signed_by - turn % 2)
        key = rotation.platform(version)
        body = request.body
        if (header := request.header("Encrypt")) is None:
            plain = answer_for(json.loads(body)["requestId"])
            reply = wallet.signed(request, plain, key=key, version=str(version))
        else:
            wrapped = b64decode(unquote(header.partition("symmetricKey=")[2]))
            content_key = rotation.platform(version_in(header)).decrypt(
                wrapped, padding.PKCS1v15()
            )
            plain = answer_for(json.loads(peer.unseal(body, content_key))["requestId"])
            reply = wallet.signed(
                request, peer.seal(plain), key=key, version=str(version)
            )
            to = peer.wrap(rotation.partner(version).public_key())
            reply.headers.append(("Encrypt", peer.encrypt_header(to, str(version))))
        reply.close = turn % 5 == 0  # so that there are handshakes, too
        return reply

    return answer


@pytest.mark.chaos
@pytest.mark.timeout(900)
async def test_keys_and_certificates_swapped_500_times_cost_no_exchange(
    run_house, tmp_path, partner_key, platform_key, other_key, monkeypatch
):
    monkeypatch.setattr("gateway.keys.store.POLL_SECONDS", LOOK_S)
    monkeypatch.setattr("gateway.edge.tls.POLL_SECONDS", LOOK_S)
    more = [new_key() for _ in range(4)]
    # Version 1 has the keys of the ring that is there at the start.
    rotation = Rotation(
        tmp_path, [more[0], partner_key, more[1]], [more[2], platform_key, more[3]]
    )
    pki = Pki(tmp_path, [other_key, more[0]], more[1])
    wallet_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    wallet_tls.load_cert_chain(tmp_path / "wallet.crt", tmp_path / "wallet.key")
    wallet_tls.load_verify_locations(tmp_path / "ca.crt")
    wallet_tls.verify_mode = ssl.CERT_REQUIRED
    ours = ssl.create_default_context(cafile=tmp_path / "ca.crt")
    names, shown, versions = count(), set(), set()
    pair = {"certificate": "us.crt", "private_key": "us.key"}
    inbound = {"certificate": "gateway.crt", "private_key": "gateway.key"}
    async with run_house(
        wallet_tls=wallet_tls,
        scheme="https",
        client={"tls": {"ca_file": "ca.crt", **pair}},
        inbound={"tls": inbound},
    ) as house:
        house.wallet.answer = answering(rotation, house.wallet, versions)

        async def call(number):
            """Make an exchange on a connection of its own. Gives whether it did."""
            name = f"r{next(names)}"
            body = body_for(name)
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", house.caller.port, ssl=ours, server_hostname="gateway"
            )
            with closing(writer):
                tls = writer.get_extra_info("ssl_object")
                shown.add(tls.getpeercert(binary_form=True))
                writer.write(
                    f"POST {peer.TARGET} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
                    f"Gateway-Encrypt: {'true' if number % 2 else 'false'}\r\n"
                    f"Content-Length: {len(body)}\r\n\r\n".encode()
                    + body
                )
                got = await read_answer(reader)
            assert got.header("Gateway-Verified") == "true", got.body
            assert got.body == answer_for(name)
            return name

        def taken_up(new):
            settings = [e["setting"] for e in house.events("certificates_loaded")]
            return (
                house.events("keyring_loaded")[-1]["generation"] == new
                and settings.count("inbound.tls") >= new - 1
                and settings.count("client hk: tls") >= new - 1
            )

        async with busy(CALLERS, call) as done:
            for new in range(2, SWAPS + 2):
                await pki.swap("gateway", new)
                await pki.swap("us", new)
                await rotation.swap(new)
                await house.seen(lambda new=new: taken_up(new), f"{new} not taken up")
        refused = len(house.events("keyring_refused"))
        torn = len(house.events("certificates_refused"))
    assert len(versions) > SWAPS / 2
    assert len(shown) == 2
    print(
        f"{SWAPS} swaps, {len(done)} exchanges under {len(versions)} versions; "
        f"{refused} half rings and {torn} half pairs refused"
    )


def new_key():
    return generate_private_key(public_exponent=65537, key_size=2048)
