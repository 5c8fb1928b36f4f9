"""Certificates of the tests' own authorities, on small elliptic keys: they are quick."""

import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)
LOCALHOST = (x509.DNSName("localhost"),)


class Authority:
    """Issues certificates, as `NAME.crt` with `NAME.key`, into a folder."""

    def __init__(self, folder, name="ca", *, ends=90 * DAY):
        self.folder = folder
        self.file = folder / f"{name}.crt"
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._certificate = self._sign(name, self._key.public_key(), ends=ends)
        self.file.write_bytes(self._certificate.public_bytes(Encoding.PEM))

    def issue(self, name, *names, ends=90 * DAY, passphrase=None, **more):
        """Issue a certificate; `ends` is from now; for `more` see `_sign`."""
        key = ec.generate_private_key(ec.SECP256R1())
        issued = self._sign(name, key.public_key(), names=names, ends=ends, **more)
        hidden = BestAvailableEncryption(passphrase) if passphrase else NoEncryption()
        pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, hidden)
        self.write(f"{name}.crt", issued.public_bytes(Encoding.PEM))
        self.write(f"{name}.key", pem)
        return issued.serial_number

    def write(self, name, data):
        """Put a file in place whole, readable by its owner alone."""
        new = self.folder / f".{name}"
        new.touch(mode=0o600)
        new.write_bytes(data)
        new.rename(self.folder / name)

    def _sign(self, name, key, *, names=None, ends=90 * DAY, begins=None, without=()):
        own = not hasattr(self, "_certificate")
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        ends = now + ends
        begins = min(now, ends) - DAY if begins is None else now + begins
        usage = dict.fromkeys(
            (
                *("content_commitment", "key_encipherment", "data_encipherment"),
                *("key_agreement", "encipher_only", "decipher_only"),
            ),
            False,
        )
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if own else self._certificate.subject)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(begins)
            .not_valid_after(ends)
            .add_extension(x509.BasicConstraints(own, None), critical=True)
            .add_extension(
                x509.KeyUsage(
                    digital_signature=True, key_cert_sign=own, crl_sign=own, **usage
                ),
                critical=True,
            )
            .add_extension(
                x509.SubjectKeyIdentifier.from_public_key(key), critical=False
            )
        )
        if "authority key identifier" not in without:
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
                self._key.public_key()
            )
            builder = builder.add_extension(issuer, critical=False)
        if names:
            builder = builder.add_extension(
                x509.SubjectAlternativeName(names), critical=False
            )
        return builder.sign(self._key, hashes.SHA256())


def trusting(authority, show=None):
    """Give the TLS of a caller; `show` names the certificate that it has, if any."""
    context = ssl.create_default_context(cafile=authority.file)
    if show:
        folder = authority.folder
        context.load_cert_chain(folder / f"{show}.crt", folder / f"{show}.key")
    return context


def serial_of(writer):
    """Give the serial number of the certificate that the other side showed."""
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(shown).serial_number
