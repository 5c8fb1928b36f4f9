"""AlipayHK as a process of its own, which knows what is registered at the moment.

    python -m tests.chaos.strict_platform

Writes its port on a line. Each line of standard input is a JSON object of what it is to
know from now on: `partner`, our registered public keys by version, and `platform`, its
own pairs; an empty object changes nothing. It answers each by a line: how often it saw
and used each version so far, and why it refused what it refused.

It takes no other version than those, and takes turns among all of them: any that is
registered may be encrypted to, any of its own may sign.
"""

import asyncio
import json
import re
import sys
from base64 import b64decode
from collections import Counter
from itertools import count
from urllib.parse import unquote

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.serialization import (
    load_pem_private_key,
    load_pem_public_key,
)

from tests import peer
from tests.chaos.conftest import answer_for
from tests.integration.wallet import Reply, Wallet

REFUSAL = b'{"resultInfo":{"resultCode":"INVALID_SIGNATURE","resultStatus":"F"}}'


class Strict(Wallet):
    """Verifies by itself, and keeps nothing but counts."""

    def __init__(self):
        super().__init__(None, None)
        self.arrived = Forgetful()
        self.answer = self._judged
        self.partner, self.platform = {}, {}
        self.did = {each: Counter() for each in ("verify", "decrypt", "sign", "wrap")}
        self.refused = []
        self._turns = count()

    def know(self, partner=None, platform=None):
        if partner is not None:
            keys = {v: load_pem_public_key(pem.encode()) for v, pem in partner.items()}
            self.partner = keys
        if platform is not None:
            self.platform = {
                v: load_pem_private_key(pem.encode(), None)
                for v, pem in platform.items()
            }

    def told(self):
        return {**self.did, "refused": self.refused}

    def _judged(self, request):
        try:
            return self._answered(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is refused
            self.refused.append(f"{request.header('Signature')[:60]}: {error!r}")
            return Reply(200, [("Content-Type", "application/json")], REFUSAL)

    def _answered(self, request):
        version, signature = self._field(request, "Signature", "signature")
        base = peer.signature_base(
            target=request.target,
            client_id=peer.CLIENT_ID,
            time=request.header("Request-Time"),
            body=request.body,
        )
        self._known(self.partner, version, "verify").verify(
            signature, base, padding.PKCS1v15(), hashes.SHA256()
        )
        turn = next(self._turns)
        ours = self._next(self.platform, turn, "sign")
        key = self.platform[ours]
        if request.header("Encrypt") is None:
            name = json.loads(request.body)["requestId"]
            return self.signed(request, answer_for(name), key=key, version=ours)
        version, wrapped = self._field(request, "Encrypt", "symmetricKey")
        own = self._known(self.platform, version, "decrypt")
        content_key = own.decrypt(wrapped, padding.PKCS1v15())
        name = json.loads(peer.unseal(request.body, content_key))["requestId"]
        sealed = peer.seal(answer_for(name))
        reply = self.signed(request, sealed, key=key, version=ours)
        to = self._next(self.partner, turn // 2, "wrap")
        wrapped = peer.wrap(self.partner[to])
        reply.headers.append(("Encrypt", peer.encrypt_header(wrapped, to)))
        return reply

    def _field(self, request, header, name):
        found = re.search(rf"keyVersion=([^,]+),{name}=(.+)", request.header(header))
        return found[1], b64decode(unquote(found[2]))

    def _known(self, keys, version, use):
        self.did[use][version] += 1
        return keys[version]

    def _next(self, keys, turn, use):
        version = [*keys][turn % len(keys)]
        self.did[use][version] += 1
        return version


class Forgetful(list):
    """Where requests are put that nobody asks for."""

    def append(self, _):
        pass


async def main():
    strict = Strict()
    async with strict.listening():
        print(strict.port, flush=True)
        while line := await asyncio.to_thread(sys.stdin.readline):
            strict.know(**json.loads(line))
            print(json.dumps(strict.told()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
