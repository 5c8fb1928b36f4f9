"""The Signature and Encrypt header values."""

import pytest

from gateway.protocol import EncryptField, FieldError, SignatureField
from gateway.protocol.fields import check_key_version
from tests import peer

SIGNATURE = bytes(range(256))
TEXT = peer.signature_header(SIGNATURE)
VALUE = TEXT.partition("signature=")[2]


def test_a_signature_is_written_in_the_order_that_the_vendor_reads_by_position():
    assert SignatureField("2", b"\xfb\xef").format() == (
        "algorithm=RSA256,keyVersion=2,signature=%2B%2B8%3D"
    )


def test_an_encryption_is_written_in_the_same_order():
    assert EncryptField("0", b"\xfb\xef").format() == (
        "algorithm=RSA_AES,keyVersion=0,symmetricKey=%2B%2B8%3D"
    )


def test_a_key_version_that_is_not_configured_is_left_out():
    assert SignatureField(None, b"\x00").format() == (
        "algorithm=RSA256,signature=AA%3D%3D"
    )
    assert EncryptField(None, b"\x00").format() == (
        "algorithm=RSA_AES,symmetricKey=AA%3D%3D"
    )


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(TEXT, id="as sent"),
        pytest.param(TEXT.replace(",", ", "), id="space after commas"),
        pytest.param(TEXT.replace(",", ",\t "), id="tab after commas"),
        pytest.param(f" {TEXT} ", id="spaces around"),
        pytest.param(
            f"signature={VALUE},keyVersion=1,algorithm=RSA256", id="another order"
        ),
        pytest.param(TEXT.replace("RSA256", "rsa256"), id="algorithm in lower case"),
        pytest.param(TEXT.replace("RSA256", "Rsa 256"), id="algorithm in mixed case"),
        pytest.param(TEXT.replace("=1,", "= 1 ,"), id="spaces around the version"),
        pytest.param(TEXT.replace("keyVersion=", "keyVersion ="), id="space before ="),
        pytest.param(TEXT[:90] + " \t" + TEXT[90:], id="white space in the value"),
        pytest.param(TEXT + ",nonce=7", id="an unknown key"),
        pytest.param(TEXT + ",nonce=", id="an unknown key without a value"),
        pytest.param(TEXT.replace("%2F", "/").replace("%2B", "+"), id="not escaped"),
        pytest.param(TEXT.replace("%2F", "_").replace("%2B", "-"), id="base64url"),
        pytest.param(TEXT.replace("%3D", ""), id="no padding"),
        pytest.param(TEXT.replace("%3D", "="), id="bare padding"),
    ],
)
def test_a_signature_is_read_in_every_form_seen(text):
    assert SignatureField.parse(text) == SignatureField("1", SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        peer.encrypt_header(SIGNATURE),
        f"symmetricKey={VALUE}, keyVersion=1, algorithm=rsa_aes",
        f"symmetricKey = {VALUE[:50]} {VALUE[50:]} ,keyVersion=1,algorithm=RSA_AES",
    ],
)
def test_a_wrapped_key_is_read_in_the_same_ways(text):
    assert EncryptField.parse(text) == EncryptField("1", SIGNATURE)


@pytest.mark.parametrize(
    "text",
    [
        f"algorithm=RSA256,signature={VALUE}",
        f"algorithm=RSA256,keyVersion=,signature={VALUE}",
        f"algorithm=RSA256,keyVersion= \t,signature={VALUE}",
    ],
)
def test_a_missing_or_empty_key_version_is_none(text):
    assert SignatureField.parse(text).key_version is None


def test_white_space_pasted_into_a_key_version_is_dropped():
    text = f"algorithm=RSA256,keyVersion= 1\t0 ,signature={VALUE}"
    assert SignatureField.parse(text).key_version == "10"


@pytest.mark.parametrize("version", ["0", "01", "1.0", "2026-11_a", "x" * 300, "a=b"])
def test_a_key_version_is_an_opaque_text(version):
    text = f"algorithm=RSA256,keyVersion={version},signature={VALUE}"
    assert SignatureField.parse(text).key_version == version


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param(",", id="a comma"),
        pytest.param(VALUE, id="a bare value"),
        pytest.param(TEXT + ",", id="a comma at the end"),
        pytest.param("," + TEXT, id="a comma first"),
        pytest.param(TEXT.replace(",", ";"), id="semicolons"),
        pytest.param(TEXT + ",algorithm=RSA256", id="algorithm twice"),
        pytest.param(TEXT + ",keyVersion=1", id="version twice"),
        pytest.param(TEXT + f", signature={VALUE}", id="signature twice"),
        pytest.param(TEXT + ",x=1,x=1", id="an unknown key twice"),
        pytest.param(TEXT + "," + TEXT, id="two fields joined"),
    ],
)
def test_what_is_not_a_list_of_pairs_is_an_error(text):
    with pytest.raises(FieldError):
        SignatureField.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("algorithm=RSA256,keyVersion=1", id="missing"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature=", id="empty"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature= ", id="white space"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature=%20", id="escaped space"),
        pytest.param("algorithm=RSA256,keyVersion=1,signature===", id="only padding"),
    ],
)
def test_an_empty_signature_is_an_error(text):
    with pytest.raises(FieldError, match="its signature is empty"):
        SignatureField.parse(text)


def test_an_empty_wrapped_key_is_an_error():
    with pytest.raises(FieldError, match="its symmetricKey is empty"):
        EncryptField.parse("algorithm=RSA_AES,keyVersion=1,symmetricKey=")


@pytest.mark.parametrize("value", ["****", "A", "AB==", "%252B", "\u00e9AAA", "%GG"])
def test_a_value_that_is_not_base64_is_an_error(value):
    with pytest.raises(FieldError, match="its signature is not base64"):
        SignatureField.parse(f"algorithm=RSA256,keyVersion=1,signature={value}")


@pytest.mark.parametrize(
    "algorithm",
    [
        *("RSA_AES", "RSA", "RSA1", "RSA512", "RSA2", "SHA256withRSA", "none", "NONE"),
        *("RSA256 RSA256", "ECC256", "HS256", "RSA256%20", "'RSA256'"),
    ],
)
def test_another_algorithm_is_refused_without_quoting_it(algorithm):
    text = f"algorithm={algorithm},keyVersion=1,signature={VALUE}"
    with pytest.raises(FieldError) as caught:
        SignatureField.parse(text)
    assert str(caught.value) == "it names another algorithm; only RSA256 is defined"


@pytest.mark.parametrize("algorithm", ["ECC224", "ecc224", "Ecc 224"])
def test_ecc224_is_refused_by_name(algorithm):
    text = f"algorithm={algorithm},keyVersion=1,signature={VALUE}"
    with pytest.raises(FieldError, match=r"^it names ECC224; only RSA256 is defined$"):
        SignatureField.parse(text)


@pytest.mark.parametrize(
    "text", [f"keyVersion=1,signature={VALUE}", f"algorithm=,signature={VALUE}"]
)
def test_a_missing_or_empty_algorithm_is_refused(text):
    with pytest.raises(FieldError, match="no algorithm"):
        SignatureField.parse(text)


@pytest.mark.parametrize("algorithm", ["RSA256", "AES", "RSA", "RSA_OAEP"])
def test_an_encrypt_field_takes_no_other_algorithm(algorithm):
    with pytest.raises(FieldError, match="only RSA_AES is defined"):
        EncryptField.parse(f"algorithm={algorithm},keyVersion=1,symmetricKey={VALUE}")


def test_a_signature_field_and_an_encrypt_field_are_not_interchangeable():
    with pytest.raises(FieldError):
        EncryptField.parse(TEXT)
    with pytest.raises(FieldError):
        SignatureField.parse(peer.encrypt_header(SIGNATURE))


def test_an_error_never_quotes_the_value():
    canary = "Q0FOQVJZ"
    for text in (
        f"algorithm={canary},signature={canary}",
        f"algorithm=RSA256,signature={canary}!",
        f"algorithm=RSA256,keyVersion={canary},signature=",
        canary,
    ):
        with pytest.raises(FieldError) as caught:
            SignatureField.parse(text)
        assert canary not in str(caught.value)


@pytest.mark.parametrize("label", ["0", "1", "hk-2026.11_a", "x" * 64])
def test_a_key_version_that_can_be_sent_is_given_back(label):
    assert check_key_version(label) == label


@pytest.mark.parametrize(
    "label",
    ["", " ", "1 ", "1\n", "a,b", "a=b", "\u0661", "x" * 65, "1\r\nX: y", "%31"],
)
def test_a_key_version_that_would_break_the_header_is_never_sent(label):
    with pytest.raises(ValueError, match="a key version is"):
        check_key_version(label)
    with pytest.raises(ValueError, match="a key version is"):
        SignatureField(label, SIGNATURE).format()
    with pytest.raises(ValueError, match="a key version is"):
        EncryptField(label, SIGNATURE).format()
