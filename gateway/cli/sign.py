r"""Sign a request of ours, as a running gateway would, and print its headers.

FILE is the plain JSON body; its bytes are signed as they are and must be sent as
they are (curl: --data-binary, as -d drops newlines). The key is the ring's active
one. With --encrypt the body is encrypted to AlipayHK first, and printed after the
headers and a blank line.

Examples:
  gateway sign order.json --target /api/open/alipay/v1/content/synchronize
  gateway sign order.json --target /api/... --curl https://open-id-pre.alipay.com
  gateway sign order.json --target /api/... --encrypt --message > request.http
  gateway sign order.json --target /api/... --keyring keys/hk --client-id 4Q5Y8W0W
  gateway sign order.json --target /api/... --time 2024-05-22T06:42:21+05:30
  jq -cj . order.json | gateway sign - --target /api/... --json
"""

import argparse
import asyncio
import json
import shlex
from urllib.parse import urlsplit

from gateway.cli import UsageError
from gateway.cli._governing import homes_of
from gateway.cli._messages import header_lines, print_message
from gateway.cli._outgoing import encrypted, read_body, signed
from gateway.cli._ring import add_ring, clock, sender_of
from gateway.cli.options import add_json
from gateway.config import Client
from gateway.keys.backends.file import KeyringFolder
from gateway.protocol import (
    Draft,
    SignedMessage,
    draft_request,
    format_time,
    parse_time,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `gateway sign`."""
    add = parser.add_argument
    add("file", metavar="FILE", help="the plain JSON body; - is standard input")
    add("--target", required=True, metavar="TARGET", help="path and query string")
    add("--client-id", metavar="ID", help="(default: the configuration's)")
    add("--time", type=_time, metavar="TIME", help="Request-Time (default: now)")
    add("--encrypt", action="store_true", help="encrypt the body to AlipayHK")
    form = parser.add_mutually_exclusive_group()
    form.add_argument(
        "--curl", metavar="URL", help="print a curl command that sends it there"
    )
    form.add_argument(
        "--message", action="store_true", help="print the whole request as raw HTTP"
    )
    add_json(form)
    add_ring(parser)


def run(arguments: argparse.Namespace) -> int:
    """Sign, and print in the form that is wanted."""
    client = sender_of(arguments)
    ring = KeyringFolder(client.keyring, homes_of(arguments, client.keyring)).read(
        clock()
    )
    draft = _draft(arguments, client)
    if arguments.encrypt:
        draft = encrypted(draft, ring.recipient, client)
    request = asyncio.run(signed(draft, ring, client))
    if arguments.json:
        print(json.dumps(_as_json(request)))
    elif arguments.curl is not None:
        print(_curl(arguments, request))
    elif arguments.message:
        first = f"{draft.method} {draft.target} HTTP/1.1\n"
        print_message(first + header_lines(request.headers), request.body)
    elif arguments.encrypt:
        print_message(header_lines(request.headers), request.body)
    else:
        print(header_lines(request.headers), end="")
    return 0


def _time(text: str) -> str:
    """Check a time given on the command line; its text is signed as it is."""
    try:
        parse_time(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _draft(arguments: argparse.Namespace, client: Client) -> Draft:
    if not client.client_id:
        msg = "name our Client-Id with --client-id"
        raise UsageError(msg)
    try:
        return draft_request(
            target=arguments.target,
            client_id=client.client_id,
            time=arguments.time or format_time(clock(), client.time_offset),
            body=read_body(arguments.file),
        )
    except ValueError as error:
        raise UsageError(str(error)) from None


def _as_json(request: SignedMessage) -> dict[str, object]:
    return {
        "method": request.draft.method,
        "target": request.target,
        "headers": dict(request.headers),
        "body": request.body.decode(),
        "key_version": request.signature.key_version,
    }


def _curl(arguments: argparse.Namespace, request: SignedMessage) -> str:
    """Give a command line that sends exactly what was signed."""
    inline = arguments.encrypt or arguments.file == "-"
    data = request.body.decode() if inline else f"@{arguments.file}"
    options = [("-H", f"{name}: {value}") for name, value in request.headers]
    options.append(("--data-binary", data))
    return " \\\n  ".join(
        [
            f"curl -i {shlex.quote(_url(arguments.curl, request.target))}",
            *(f"{option} {shlex.quote(value)}" for option, value in options),
        ]
    )


def _url(origin: str, target: str) -> str:
    parts = urlsplit(origin)
    base = f"{parts.scheme}://{parts.netloc}"
    if parts.scheme not in ("http", "https") or origin not in (
        base,
        f"{base}/",
        base + target,
    ):
        msg = "--curl takes a URL such as https://open-id-pre.alipay.com"
        raise UsageError(msg)
    return base + target
