"""What runs here: the versions of the gateway and of what it stands on."""

import platform
from importlib.metadata import PackageNotFoundError, version

from cryptography.hazmat.backends.openssl import backend


def gateway_version() -> str:
    """Return the gateway's version."""
    try:
        return version("alipayhk-gateway")
    except PackageNotFoundError:
        return "(not installed as a package)"


def build() -> tuple[str, str, str]:
    """Return the versions of the gateway, of Python and of the OpenSSL that signs."""
    openssl = backend.openssl_version_text().split(" ")[1]
    return gateway_version(), platform.python_version(), openssl
