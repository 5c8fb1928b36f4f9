"""Run in the vendor's environment: their SDK signs, verifies and judges.

Reads a JSON array of operations from standard input and writes one of results:
what the operation gave, or {"error": …} where the SDK raised. It must import
nothing but the vendor's package and the standard library.
"""

import json
import sys
from importlib.metadata import version

from com.alipay.ams.api.default_alipay_client import DefaultAlipayClient
from com.alipay.ams.api.tools import signature_tool


def sdk_version():
    return version("global-open-sdk-python")


def judge(public_key, target, *answer):
    """Ask the SDK's client whether it would give this answer to its caller.

    The answer is its Client-Id, Response-Time, body and signature.
    """
    client = DefaultAlipayClient("https://gateway.invalid", "id", "", public_key)
    client._DefaultAlipayClient__assert_response_verified("POST", target, *answer)
    return True


def read_headers(headers):
    """Let the SDK's client take signature, time and client id from the headers."""
    client = DefaultAlipayClient("https://gateway.invalid", "id", "", "")
    return client._DefaultAlipayClient__parse_header(headers)


OPERATIONS = {
    "sdk_version": sdk_version,
    "sign": signature_tool.sign,
    "verify": signature_tool.verify,
    "judge": judge,
    "read_headers": read_headers,
}


def run(name, arguments):
    try:
        return OPERATIONS[name](*arguments)
    except Exception as error:  # noqa: BLE001 - the SDK raises what it likes
        return {"error": type(error).__name__}


if __name__ == "__main__":
    requests = json.load(sys.stdin)
    json.dump([run(name, arguments) for name, *arguments in requests], sys.stdout)
