"""TLS to AlipayHK: always verified, 1.2 at least, pinned and mutual where wanted."""

import ipaddress
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from gateway import config
from gateway.errors import SetupError
from gateway.plant import CLOCK, ENTROPY
from gateway.preflight import check
from tests.integration.conftest import write_private


def certificate(subject, key, *, issuer=None, issuer_key=None, host=None):
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(issuer.subject if issuer else name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True
        )
    )
    if host:
        names = [x509.DNSName(host), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        builder = builder.add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
    return builder.sign(issuer_key or key, hashes.SHA256())


@pytest.fixture
def pki(tmp_path, partner_key, platform_key, other_key):
    """An authority, and certificates of it for the wallet and for us."""
    authority = certificate("Test CA", other_key)
    for name, key, host in (
        ("wallet", platform_key, "localhost"),
        ("elsewhere", platform_key, "elsewhere.test"),
        ("partner", partner_key, None),
    ):
        issued = certificate(
            name, key, issuer=authority, issuer_key=other_key, host=host
        )
        (tmp_path / f"{name}.crt").write_bytes(issued.public_bytes(Encoding.PEM))
        write_private(tmp_path / f"{name}.key", key)
    (tmp_path / "ca.crt").write_bytes(authority.public_bytes(Encoding.PEM))
    return tmp_path


def server_side(pki, name="wallet"):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pki / f"{name}.crt", pki / f"{name}.key")
    return context


PINNED = {"tls": {"ca_file": "ca.crt"}}


async def test_a_platform_with_a_certificate_of_the_pinned_authority_is_spoken_to(
    run_house, pki
):
    async with run_house(
        wallet_tls=server_side(pki), scheme="https", client=PINNED
    ) as house:
        assert (await house.caller.post()).header("Gateway-Verified") == "true"


async def test_without_a_pinned_authority_the_systems_are_trusted(
    run_house, pki, monkeypatch
):
    monkeypatch.setenv("SSL_CERT_FILE", str(pki / "ca.crt"))
    async with run_house(wallet_tls=server_side(pki), scheme="https") as house:
        assert (await house.caller.post()).header("Gateway-Verified") == "true"


async def test_no_session_key_is_written_to_a_file_that_the_environment_names(
    run_house, pki, tmp_path, monkeypatch
):
    keys = tmp_path / "session-keys"
    monkeypatch.setenv("SSLKEYLOGFILE", str(keys))
    async with run_house(
        wallet_tls=server_side(pki), scheme="https", client=PINNED
    ) as house:
        assert (await house.caller.post()).status == 200
    assert not keys.exists()


@pytest.mark.parametrize(
    ("name", "client"),
    [("wallet", {}), ("elsewhere", PINNED)],
    ids=["an unknown authority", "another host's certificate"],
)
async def test_a_certificate_that_does_not_verify_is_not_spoken_to(
    run_house, pki, name, client
):
    async with run_house(
        wallet_tls=server_side(pki, name), scheme="https", client=client
    ) as house:
        got = await house.caller.post()
        assert (got.status, got.code) == (503, "upstream_unavailable")
        assert got.problem["outcome"] == "not_sent"
        assert "certificate does not verify" in got.problem["detail"]
        assert house.wallet.arrived == []


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
async def test_tls_before_1_2_is_not_spoken(run_house, pki):
    old = server_side(pki)
    old.set_ciphers("ALL:@SECLEVEL=0")
    old.minimum_version = ssl.TLSVersion.TLSv1
    old.maximum_version = ssl.TLSVersion.TLSv1_1
    async with run_house(wallet_tls=old, scheme="https", client=PINNED) as house:
        got = await house.caller.post()
        assert (got.status, got.code) == (503, "upstream_unavailable")


@pytest.mark.parametrize("with_certificate", [True, False])
async def test_a_client_certificate_is_shown_where_one_is_configured(
    run_house, pki, with_certificate
):
    wallet_tls = server_side(pki)
    wallet_tls.load_verify_locations(pki / "ca.crt")
    wallet_tls.verify_mode = ssl.CERT_REQUIRED
    wallet_tls.maximum_version = ssl.TLSVersion.TLSv1_2
    tls = {"ca_file": "ca.crt"}
    if with_certificate:
        tls |= {"certificate": "partner.crt", "private_key": "partner.key"}
    async with run_house(
        wallet_tls=wallet_tls, scheme="https", client={"tls": tls}
    ) as house:
        got = await house.caller.post()
    assert got.status == (200 if with_certificate else 503)


@pytest.mark.parametrize(
    ("tls", "reason"),
    [
        ({"ca_file": "nowhere.crt"}, "No such file or directory"),
        ({"ca_file": "partner.key"}, "not PEM as it must be"),
        (
            {"certificate": "partner.crt", "private_key": "open.key"},
            "others may read or write it",
        ),
    ],
)
async def test_a_tls_file_that_cannot_be_used_ends_the_start_and_fails_the_check(
    run_house, pki, tmp_path, tls, reason
):
    (pki / "open.key").write_bytes((pki / "partner.key").read_bytes())
    with pytest.raises(ExceptionGroup) as caught:
        async with run_house(client={"tls": tls}):
            pytest.fail("it started")
    (error,) = caught.value.exceptions
    assert isinstance(error, SetupError)
    assert reason in error.detail
    problems = await check(
        config.read(tmp_path / "config.yaml", {}), ENTROPY, CLOCK.now()
    )
    assert [reason in problem.message for problem in problems] == [True]
