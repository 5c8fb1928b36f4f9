"""Why a captured message does not verify: one test per mistake of protocol.md 9.

Each makes a message as the mistake would, signs it with the openssl of
`cryptography`, and asks which mistake it was.
"""

import base64
import gzip
import hashlib
import json
from dataclasses import replace
from datetime import datetime
from urllib.parse import quote, quote_plus, unquote

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from gateway.protocol import PublicKey
from gateway.protocol.diagnosis import (
    Capture,
    KnownKey,
    Standing,
    diagnose,
    search as searching,
)
from tests import peer

BODY = '{"id":"1","name":"A/B 香港 <x>","price":1.5,"list":[1,2]}'.encode()
QUERY_TARGET = f"{peer.TARGET}?a=%2Fb&c=d"


@pytest.fixture
def keys(platform_key, partner_key):
    """AlipayHK's key, and our own."""
    return [
        known("AlipayHK's key version 1", platform_key, Standing.TRUSTED),
        known("our own key version 1", partner_key, Standing.OWN),
    ]


@pytest.fixture
def diagnosed(platform_key, keys):
    """Give a function from what was signed and what was captured to the findings."""

    def run(captured=None, /, *, key=platform_key, base=None, known=None, **signed):
        capture = captured or Capture("POST", peer.TARGET, "C-1", peer.TIME, BODY, "")
        parts = {
            "method": capture.method,
            "target": capture.target,
            "client_id": capture.client_id,
            "time": capture.time,
            "body": capture.body,
            **signed,
        }
        signature = peer.rsa256(key, base or peer.signature_base(**parts))
        capture = replace(capture, signature=peer.signature_header(signature))
        return diagnose(capture, keys if known is None else known)

    return run


def known(label, key, standing, version="1"):
    return KnownKey(label, PublicKey(version, key.public_key()), standing)


def captured(**parts):
    whole = {
        "method": "POST",
        "target": peer.TARGET,
        "client_id": "C-1",
        "time": peer.TIME,
        "body": BODY,
        "signature": "",
        **parts,
    }
    return Capture(**whole)


def codes(diagnoses):
    return [each.code for each in diagnoses]


def rewritten(**how):
    return json.dumps(json.loads(BODY), **how).encode()


# --- the key -----------------------------------------------------------------


def test_our_own_key_in_place_of_the_platforms_is_named(diagnosed, partner_key):
    (found,) = diagnosed(key=partner_key)
    assert found.code == "own_key"
    assert found.finding == (
        "It was signed by our own key version 1, not by AlipayHK's."
    )


def test_our_own_public_key_that_was_imported_as_the_platforms_is_named(
    diagnosed, partner_key, platform_key
):
    keys = [
        known("AlipayHK's key version 1", partner_key, Standing.TRUSTED),
        known("our own key version 1", partner_key, Standing.OWN),
    ]
    found = diagnosed(key=platform_key, known=keys)
    assert codes(found) == ["own_key_configured", "key_unknown"]
    assert (
        found[0].finding == "AlipayHK's key version 1 is in truth our own public key."
    )


@pytest.mark.parametrize(
    ("standing", "code"),
    [
        (Standing.PRE_ACTIVE, "key_pre_active"),
        (Standing.COMPROMISED, "key_compromised"),
        (Standing.OTHER_CLIENT, "key_other_client"),
        (Standing.OTHER_USE, "key_other_use"),
        (Standing.THEIRS, "platform_key"),
    ],
)
def test_a_key_that_may_not_have_signed_is_named(
    standing, code, diagnosed, keys, other_key
):
    keys = [*keys, known("AlipayHK's key version 2", other_key, standing)]
    (found,) = diagnosed(key=other_key, known=keys)
    assert found.code == code
    assert found.finding.startswith("It was signed by AlipayHK's key version 2, ")


def test_a_key_under_another_version_is_named(platform_key):
    held = known("AlipayHK's key version 2", platform_key, Standing.TRUSTED, "2")
    signature = peer.rsa256(
        platform_key,
        peer.signature_base(client_id="C-1", time=peer.TIME, body=BODY),
    )
    header = peer.signature_header(signature, version="7")
    (found,) = diagnose(captured(signature=header), [held])
    assert found.code == "version_mislabelled"
    assert "names keyVersion 7" in found.finding


def test_a_key_that_nobody_holds_is_said_to_be_unknown(diagnosed, other_key):
    (found,) = diagnosed(key=other_key)
    assert found.code == "key_unknown"
    assert "sandbox and production" in found.advice


def test_the_right_key_over_unknown_bytes_is_told_from_a_wrong_key(diagnosed):
    (found,) = diagnosed(body=b'{"another":"body"}')
    assert found.code == "bytes_differ"
    assert found.finding.startswith("It was signed by AlipayHK's key version 1, over")


def test_our_own_key_over_unknown_bytes_is_both(diagnosed, partner_key):
    found = diagnosed(key=partner_key, body=b'{"another":"body"}')
    assert codes(found) == ["own_key", "bytes_differ"]


def test_a_signature_that_holds_is_said_to_hold(diagnosed):
    (found,) = diagnosed()
    assert found.code == "signature_holds"


# --- the body ----------------------------------------------------------------


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_newline_added_to_the_body_is_named(newline, diagnosed):
    (found,) = diagnosed(captured(body=BODY + newline), body=BODY)
    assert found.code == "body_newline_added"
    assert found.finding == "The body that was signed had no newline at its end."


@pytest.mark.parametrize(("newline", "name"), [(b"\n", "(LF)"), (b"\r\n", "(CR LF)")])
def test_a_newline_stripped_from_the_body_is_named(newline, name, diagnosed):
    (found,) = diagnosed(body=BODY + newline)
    assert found.code == "body_newline_stripped"
    assert name in found.finding


@pytest.mark.parametrize(
    ("signed", "received"),
    [
        pytest.param(b'{\n"a":1\n}', b'{\r\n"a":1\r\n}', id="LF to CR LF"),
        pytest.param(b'{\r\n"a":1\r\n}', b'{\n"a":1\n}', id="CR LF to LF"),
    ],
)
def test_changed_line_ends_are_named(signed, received, diagnosed):
    (found,) = diagnosed(captured(body=received), body=signed)
    assert found.code == "body_line_ends"


def test_lost_line_ends_are_named(diagnosed):
    (found,) = diagnosed(captured(body=b'{"a":\n1}'), body=b'{"a":1}')
    assert found.code in ("body_line_ends", "body_reserialised")
    (found,) = diagnosed(captured(body=b"a\nb"), body=b"ab")
    assert found.code == "body_line_ends"


@pytest.mark.parametrize("where", ["signed", "received"])
def test_a_byte_order_mark_is_named(where, diagnosed):
    marked = b"\xef\xbb\xbf" + BODY
    signed, received = (marked, BODY) if where == "signed" else (BODY, marked)
    (found,) = diagnosed(captured(body=received), body=signed)
    assert found.code == "body_bom"


@pytest.mark.parametrize(
    ("signed", "received"),
    [
        pytest.param(BODY, BODY + b"  \t", id="after"),
        pytest.param(BODY, b" \n" + BODY, id="before"),
        pytest.param(BODY + b" ", BODY, id="lost"),
    ],
)
def test_white_space_around_the_body_is_named(signed, received, diagnosed):
    (found,) = diagnosed(captured(body=received), body=signed)
    assert found.code == "body_white_space"


@pytest.mark.parametrize(
    ("how", "says"),
    [
        pytest.param({"separators": (",", ":")}, "without white space", id="compact"),
        pytest.param({}, "with a space after each", id="spaced"),
        pytest.param({"sort_keys": True}, "with sorted keys", id="sorted"),
        pytest.param({"indent": 2}, "indented by two spaces", id="indent 2"),
        pytest.param({"indent": 4}, "indented by four spaces", id="indent 4"),
        pytest.param({"indent": "\t"}, "indented by tabs", id="tabs"),
    ],
)
@pytest.mark.parametrize("ascii_only", [False, True])
def test_json_that_was_written_again_is_named(ascii_only, how, says, diagnosed):
    signed = rewritten(ensure_ascii=ascii_only, **how)
    received = b" " + BODY.replace(b"1.5", b" 1.5")
    (found,) = diagnosed(captured(body=received), body=signed)
    assert found.code == "body_reserialised"
    assert says in found.finding
    assert ("\\u escapes" in found.finding) is ascii_only


@pytest.mark.parametrize(
    ("escape", "says"),
    [
        pytest.param(lambda text: text.replace("/", "\\/"), "/ escaped", id="PHP"),
        pytest.param(
            lambda text: text.replace("<", "\\u003c").replace(">", "\\u003e"),
            "< > & escaped",
            id="Go",
        ),
        pytest.param(
            lambda text: (
                text.replace("<", "\\u003c")
                .replace(">", "\\u003e")
                .replace("=", "\\u003d")
            ),
            "= ' escaped",
            id="Gson",
        ),
    ],
)
def test_json_with_other_escapes_is_named(escape, says, diagnosed):
    body = BODY.replace(b"<x>", b"<x=y>")
    (found,) = diagnosed(captured(body=body), body=escape(body.decode()).encode())
    assert found.code == "body_reserialised"
    assert says in found.finding


@pytest.mark.parametrize(
    ("codec", "name", "text"),
    [
        ("gbk", "GBK", '{"a":"香港"}'),
        ("big5", "Big5", '{"a":"香港"}'),
        ("latin-1", "ISO-8859-1", '{"a":"café"}'),
        ("cp1252", "windows-1252", '{"a":"5 €"}'),
        ("utf-16-le", "UTF-16", '{"a":"香港"}'),
    ],
)
@pytest.mark.parametrize("signed_in_it", [True, False])
def test_another_charset_is_named(signed_in_it, codec, name, text, diagnosed):
    other, utf8 = text.encode(codec), text.encode()
    signed, received = (other, utf8) if signed_in_it else (utf8, other)
    (found,) = diagnosed(captured(body=received), body=signed)
    assert found.code == "body_charset"
    if signed_in_it:
        assert name in found.finding


def test_a_body_that_was_decoded_with_the_wrong_charset_is_named(diagnosed):
    """UTF-8 read as ISO-8859-1 and written as UTF-8 once more."""
    garbled = BODY.decode("latin-1").encode()
    (found,) = diagnosed(captured(body=garbled), body=BODY)
    assert found.code == "body_charset"


def test_characters_lost_to_a_narrow_charset_are_named(diagnosed):
    (found,) = diagnosed(body=BODY.decode().encode("ascii", "replace"))
    assert found.code == "body_charset"
    assert "with ? in place" in found.finding


def test_a_compressed_body_is_named(diagnosed):
    (found,) = diagnosed(captured(body=gzip.compress(BODY)), body=BODY)
    assert found.code == "body_compressed"


def test_a_body_that_was_not_signed_is_named(diagnosed):
    (found,) = diagnosed(body=b"")
    assert found.code == "body_empty"


def test_a_signature_over_the_plaintext_is_named(diagnosed):
    sealed = captured(body=peer.seal(BODY), plaintext=BODY)
    (found,) = diagnosed(sealed, body=BODY)
    assert found.code == "body_plaintext"
    assert found.advice == "Encrypt first, then sign the ciphertext that is sent."


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
@pytest.mark.parametrize("width", [64, 76])
def test_ciphertext_that_was_broken_into_lines_is_named(width, newline, diagnosed):
    sealed = peer.seal(BODY * 3)
    lines = [sealed[i : i + width] for i in range(0, len(sealed), width)]
    (found,) = diagnosed(captured(body=sealed), body=newline.join([*lines, b""]))
    assert found.code == "body_wrapped"
    assert str(width) in found.finding


def test_ciphertext_that_arrived_in_lines_is_named(diagnosed):
    sealed = peer.seal(BODY * 3)
    (found,) = diagnosed(captured(body=base64.encodebytes(b"x" * 99)), body=sealed)
    assert found.code == "bytes_differ"
    wrapped = sealed[:76] + b"\r\n \t" + sealed[76:]
    (found,) = diagnosed(captured(body=wrapped), body=sealed)
    assert found.code == "body_wrapped"


# --- target, Client-Id, time, method, layout ---------------------------------


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        pytest.param(peer.TARGET, "target_query", id="without the query"),
        pytest.param(
            f"https://open.alipay.hk{QUERY_TARGET}", "target_host", id="a whole URL"
        ),
        pytest.param(f"open.alipay.hk{peer.TARGET}", "target_host", id="with the host"),
        pytest.param(unquote(QUERY_TARGET), "target_escapes", id="decoded"),
        pytest.param(quote(QUERY_TARGET), "target_escapes", id="encoded"),
        pytest.param(f"{peer.TARGET}/?a=%2Fb&c=d", "target_slash", id="slash added"),
        pytest.param(QUERY_TARGET[1:], "target_slash", id="slash lost at the start"),
        pytest.param(QUERY_TARGET.lower(), "target_case", id="lower case"),
        pytest.param("/api/v2/else", "target_other", id="one of the others"),
    ],
)
def test_another_target_is_named(signed, code, diagnosed):
    capture = captured(target=QUERY_TARGET, other_targets=("/api/v2/else",))
    (found,) = diagnosed(capture, target=signed)
    assert found.code == code


def test_a_plus_in_the_target_that_became_a_space_is_named(diagnosed):
    (found,) = diagnosed(captured(target="/a?b=c+d"), target="/a?b=c d")
    assert found.code == "target_escapes"


def test_a_target_with_escapes_that_are_no_text_is_left_alone(diagnosed):
    (found,) = diagnosed(captured(target="/a%FF"), target="/b")
    assert found.code == "bytes_differ"


def test_a_slash_at_the_end_of_the_target_is_named(diagnosed):
    (found,) = diagnosed(captured(target="/api/pay/"), target="/api/pay")
    assert found.code == "target_slash"


@pytest.mark.parametrize("prefix", ["/proxy", "/proxy/hk"])
def test_a_prefix_that_a_proxy_dropped_is_named(prefix, diagnosed):
    (found,) = diagnosed(captured(target=prefix + peer.TARGET), target=peer.TARGET)
    assert found.code == "target_prefix"
    assert f"first part, {prefix}." in found.finding


@pytest.mark.parametrize(
    ("signed", "code"),
    [
        ("OTHER", "client_id_other"),
        ("C-1 ", "client_id_space"),
        (" C-1", "client_id_space"),
        ("c-1", "client_id_case"),
        ("", "client_id_other"),
    ],
)
def test_another_client_id_is_named(signed, code, diagnosed):
    capture = captured(other_client_ids=("OTHER",))
    (found,) = diagnosed(capture, client_id=signed)
    assert found.code == code


@pytest.mark.parametrize(
    "signed",
    [
        "2026-11-23T06:00:00Z",
        "2026-11-23T14:00:00+0800",
        "2026-11-23T06:00:00+00:00",
        "2026-11-23T14:00:00.000+08:00",
        "2026-11-23T06:00:00.000Z",
        "2026-11-23 14:00:00",
        "2026-11-23T14:00:00 08:00",
        "1795413600000",
        "1795413600",
        quote_plus(peer.TIME),
    ],
)
def test_a_time_that_was_formatted_again_is_named(signed, diagnosed):
    (found,) = diagnosed(time=signed)
    assert found.code == "time_format"


def test_a_time_with_a_fraction_that_was_dropped_is_named(diagnosed):
    capture = captured(time="2026-11-23T14:00:00.123+08:00")
    (found,) = diagnosed(capture, time=peer.TIME)
    assert found.code == "time_format"
    assert peer.TIME in found.finding


def test_a_time_in_epoch_milliseconds_that_was_formatted_is_named(diagnosed):
    (found,) = diagnosed(captured(time="1795413600000"), time=peer.TIME)
    assert found.code == "time_format"


def test_the_requests_time_in_place_of_the_responses_is_named(diagnosed):
    earlier = "2026-11-23T13:59:58+08:00"
    capture = captured(other_times=(earlier,))
    (found,) = diagnosed(capture, time=earlier)
    assert found.code == "time_other"
    assert earlier in found.finding


def test_a_time_that_was_left_out_is_named(diagnosed):
    (found,) = diagnosed(time="")
    assert found.code == "time_other"


@pytest.mark.parametrize("signed", [peer.TIME, "another time"])
def test_a_time_header_that_is_missing_explains_the_rest(signed, diagnosed):
    (found,) = diagnosed(captured(time=""), time=signed)
    assert found.code == "time_missing"
    assert "signed by AlipayHK's key version 1" in found.finding
    assert "Response-Time" in found.finding


def test_a_time_header_that_is_missing_is_named_beside_what_was_signed(diagnosed):
    capture = captured(time="", other_times=(peer.TIME,))
    assert codes(diagnosed(capture, time=peer.TIME)) == ["time_missing", "time_other"]
    assert codes(diagnosed(captured(time=""), time="")) == ["time_missing"]


def test_a_time_header_that_is_missing_excuses_no_wrong_key(
    diagnosed, partner_key, other_key
):
    found = diagnosed(captured(time=""), key=partner_key, time=peer.TIME)
    assert codes(found) == ["own_key", "time_missing"]
    found = diagnosed(captured(time=""), key=other_key, time=peer.TIME)
    assert codes(found) == ["key_unknown"]


@pytest.mark.parametrize("time", ["yesterday", "0001-01-01T00:00:00+08:00"])
def test_a_time_that_cannot_be_written_otherwise_does_no_harm(time, diagnosed):
    (found,) = diagnosed(captured(time=time), time="tomorrow")
    assert found.code == "bytes_differ"


@pytest.mark.parametrize("signed", ["GET", "post", "PUT", ""])
def test_another_method_is_named(signed, diagnosed):
    (found,) = diagnosed(method=signed)
    assert found.code == "method_other"


@pytest.mark.parametrize(
    "base",
    [
        pytest.param("POST /a\r\nC-1.T.{}", id="CR LF"),
        pytest.param("POST /a\\nC-1.T.{}", id="a backslash and n"),
        pytest.param("POST /aC-1.T.{}", id="no newline"),
        pytest.param("POST /a C-1.T.{}", id="a space"),
        pytest.param("{}", id="the body alone"),
        pytest.param("C-1.T.{}", id="no first line"),
        pytest.param("POST /a\nC-1T{}", id="no dots"),
    ],
)
def test_a_base_that_was_put_together_otherwise_is_named(base, diagnosed):
    capture = captured(target="/a", time="T", body=b"{}")
    (found,) = diagnosed(capture, base=base.encode())
    assert found.code == "base_layout"


# --- two mistakes ------------------------------------------------------------


def test_two_mistakes_in_different_parts_are_both_named(diagnosed):
    found = diagnosed(
        captured(target=QUERY_TARGET, body=BODY + b"\n"),
        target=peer.TARGET,
        body=BODY,
    )
    assert codes(found) == ["body_newline_added", "target_query"]


def test_two_mistakes_in_the_body_are_both_named(diagnosed):
    found = diagnosed(body=rewritten() + b"\n")
    assert codes(found) == ["body_reserialised", "body_newline_stripped"]


def test_two_mistakes_beside_the_body_are_both_named(diagnosed):
    found = diagnosed(time="2026-11-23T06:00:00Z", client_id="c-1")
    assert codes(found) == ["time_format", "client_id_case"]


def test_a_wrong_key_and_a_wrong_body_are_both_named(diagnosed, partner_key):
    found = diagnosed(captured(body=BODY + b"\n"), key=partner_key, body=BODY)
    assert codes(found) == ["own_key", "body_newline_added"]


def test_the_simplest_explanation_is_the_one_found(diagnosed):
    """A single mistake is named even where a pair would explain it as well."""
    capture = captured(body=b'{"a": 1}\n')
    (found,) = diagnosed(capture, body=b'{"a": 1}')
    assert found.code == "body_newline_added"


# --- the signature and its header --------------------------------------------


def signed_with(key, make, version="1"):
    base = peer.signature_base(client_id="C-1", time=peer.TIME, body=BODY)
    return captured(signature=peer.signature_header(make(key, base), version))


@pytest.mark.parametrize(
    "algorithm",
    [hashes.SHA1(), hashes.SHA512(), hashes.SHA384(), hashes.SHA224(), hashes.MD5()],
    ids=lambda each: each.name,
)
def test_another_hash_is_named(algorithm, platform_key, keys):
    def make(key, base):
        return peer.rsa256(key, base, algorithm)

    (found,) = diagnose(signed_with(platform_key, make), keys)
    assert found.code == "signature_hash"
    assert algorithm.name.upper() in found.finding


def test_another_hash_over_another_body_is_both(platform_key, keys):
    def make(key, base):
        return peer.rsa256(key, base + b"\n", hashes.SHA1())

    found = diagnose(signed_with(platform_key, make), keys)
    assert codes(found) == ["signature_hash", "body_newline_stripped"]


@pytest.mark.parametrize("algorithm", [hashes.SHA256(), hashes.SHA512()])
def test_pss_padding_is_named(algorithm, platform_key, keys):
    def make(key, base):
        pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
        return key.sign(base, pss, algorithm)

    (found,) = diagnose(signed_with(platform_key, make), keys)
    assert found.code == "signature_pss"
    assert "AlipayHK's key version 1" in found.finding


def test_a_digest_without_the_name_of_its_hash_is_named(platform_key, keys):
    """NONEwithRSA over a SHA-256 digest, as some HSM libraries make it."""

    def make(key, base):
        digest = hashlib.sha256(base).digest()
        numbers = key.private_numbers()
        modulus = numbers.public_numbers.n
        padded = b"\x00\x01" + b"\xff" * (256 - 3 - len(digest)) + b"\x00" + digest
        return pow(int.from_bytes(padded), numbers.d, modulus).to_bytes(256)

    (found,) = diagnose(signed_with(platform_key, make), keys)
    assert found.code == "signature_bare_digest"


@pytest.fixture
def value(platform_key):
    """A good signature's base64, whose + and / are what gets mangled."""
    for number in range(1000):
        body = BODY + b" " * number
        base = peer.signature_base(client_id="C-1", time=peer.TIME, body=body)
        text = base64.b64encode(peer.rsa256(platform_key, base)).decode()
        if "+" in text[:-4] and "/" in text:
            return body, text
    raise AssertionError


def test_a_plus_that_became_a_space_is_named(value, keys):
    body, text = value
    header = f"algorithm=RSA256,keyVersion=1,signature={text.replace('+', ' ')}"
    (found,) = diagnose(captured(body=body, signature=header), keys)
    assert found.code == "field_plus_lost"


def test_a_value_that_was_encoded_twice_is_named(value, keys):
    body, text = value
    twice = quote(quote(text, safe=""), safe="")
    header = f"algorithm=RSA256,keyVersion=1,signature={twice}"
    (found,) = diagnose(captured(body=body, signature=header), keys)
    assert found.code == "field_encoded_twice"


def test_a_value_in_hexadecimal_is_named(value, keys):
    body, text = value
    header = f"algorithm=RSA256,keyVersion=1,signature={base64.b64decode(text).hex()}"
    (found,) = diagnose(captured(body=body, signature=header), keys)
    assert found.code == "field_hex"


def test_a_bare_value_without_algorithm_is_named(value, keys):
    body, text = value
    (found,) = diagnose(captured(body=body, signature=text), keys)
    assert found.code == "field_unreadable"
    assert "cannot be used" in found.finding


def test_another_algorithm_in_the_header_is_named(value, keys):
    body, text = value
    header = f"algorithm=RSA512,signature={quote(text, safe='')}"
    (found,) = diagnose(captured(body=body, signature=header), keys)
    assert found.code == "field_unreadable"
    assert "another algorithm" in found.finding


def test_a_header_without_anything_to_read_is_named(keys):
    found = diagnose(captured(signature="algorithm=RSA256,signature=%%%"), keys)
    assert codes(found) == ["field_unreadable", "key_unknown"]


def test_a_signature_that_was_cut_is_named(platform_key, keys):
    def make(key, base):
        return peer.rsa256(key, base)[:250]

    found = diagnose(signed_with(platform_key, make), keys)
    assert codes(found) == ["signature_length", "key_unknown"]
    assert "250 bytes" in found[0].finding
    assert "256" in found[0].finding


def test_without_any_key_every_signature_is_unknown(platform_key):
    found = diagnose(signed_with(platform_key, peer.rsa256), [])
    assert codes(found) == ["key_unknown"]


def test_a_key_of_another_length_is_no_obstacle(platform_key, keys):
    longer = rsa.generate_private_key(65537, 3072)
    keys = [known("AlipayHK's key version 2", longer, Standing.TRUSTED), *keys]
    (found,) = diagnose(signed_with(platform_key, peer.rsa256), keys)
    assert found.code == "signature_holds"


# --- no signature, and other protocols ---------------------------------------


@pytest.mark.parametrize("body", [peer.FAILURE, peer.UNKNOWN])
def test_an_unsigned_refusal_is_not_a_failed_verification(body, keys):
    (found,) = diagnose(captured(body=body, time=""), keys)
    assert found.code == "unsigned_refusal"
    assert "Nothing is wrong with verification" in found.advice


def test_an_unsigned_refusal_names_its_result(keys):
    (found,) = diagnose(captured(body=peer.FAILURE, time=""), keys)
    assert "PARAM_ILLEGAL" in found.finding
    body = b'{"result":{"resultStatus":"F"}}'
    (found,) = diagnose(captured(body=body, time=""), keys)
    assert "(F)" in found.finding


@pytest.mark.parametrize("body", [peer.SUCCESS, b"<html>", b""])
def test_an_unsigned_answer_that_is_no_refusal_is_named(body, keys):
    (found,) = diagnose(captured(body=body, time=""), keys)
    assert found.code == "signature_missing"


def test_a_time_without_a_signature_is_named(keys):
    (found,) = diagnose(captured(body=peer.SUCCESS), keys)
    assert found.code == "half_signed"


@pytest.mark.parametrize("inner", ["request", "response"])
@pytest.mark.parametrize("time", ["", peer.TIME])
def test_a_legacy_body_is_named(inner, time, keys):
    """Its signature is inside: that the header is missing says nothing else."""
    legacy = f'{{"{inner}":{{"head":{{}},"body":{{}}}},"signature":"x"}}'
    (found,) = diagnose(captured(body=legacy.encode(), time=time), keys)
    assert found.code == "legacy_body"


@pytest.mark.parametrize(
    "body",
    [
        b'{"response":{"head":{}}}',
        b'{"response":{"other":{}},"signature":"x"}',
        b'{"response":"head","signature":"x"}',
    ],
)
def test_what_only_resembles_the_legacy_form_is_not_called_so(body, keys):
    (found,) = diagnose(captured(body=body, time=""), keys)
    assert found.code == "signature_missing"


def test_a_legacy_body_is_named_beside_a_signature_too(diagnosed):
    legacy = b'{"request":{"head":{},"body":{}},"signature":"x"}'
    found = diagnosed(captured(body=legacy), body=b"else")
    assert codes(found) == ["bytes_differ", "legacy_body"]


# --- limits ------------------------------------------------------------------


def test_the_search_is_bounded_in_candidates(monkeypatch):
    tried = []
    found = searching.search(
        captured(target=QUERY_TARGET), lambda base: bool(tried.append(base))
    )
    assert found is None
    assert 1000 < len(tried) <= searching.MAX_CANDIDATES


def test_the_search_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(searching, "MAX_BYTES", 10_000)
    tried = []
    searching.search(
        captured(body=b"x" * 3000), lambda base: bool(tried.append(len(base)))
    )
    assert len(tried) == 4


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"[" * 100_000, id="nested too deeply"),
        pytest.param(b"[" * 300 + b"]" * 300, id="nested deeply"),
        pytest.param(b"1" * 10_000, id="a number too long"),
        pytest.param(b'"\\ud800"', id="half a character"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
        pytest.param(b"", id="nothing"),
        pytest.param(b"x" * 200_000, id="long"),
    ],
)
def test_a_hostile_body_is_only_not_explained(body, diagnosed):
    found = diagnosed(captured(body=body), body=b"something else")
    assert codes(found)[0] == "bytes_differ"


def test_a_compressed_body_is_inflated_to_a_limit(diagnosed):
    bomb = gzip.compress(bytes(64 << 20))
    found = diagnosed(captured(body=bomb), body=b"something else")
    assert codes(found) == ["bytes_differ"]


def test_no_finding_shows_the_body_or_the_signature(diagnosed):
    secret = "SECRET-VALUE"
    body = json.dumps({"card": secret}).encode()
    for signed in (body, body + b"\n", b"else"):
        for found in diagnosed(captured(body=body), body=signed):
            assert secret not in f"{found}"
    assert secret not in repr(captured(body=body, signature=secret))


def test_the_moment_of_the_tests_is_the_one_they_name():
    assert datetime.fromisoformat(peer.TIME).timestamp() == 1795413600
