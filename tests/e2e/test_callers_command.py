"""`gateway callers new`, and a gateway that knows the caller it made."""

import hashlib
import json
import re

import pytest
import yaml

from tests.e2e.test_command_line import run

TOKEN = re.compile(r"ahkgw_[A-Za-z0-9_-]{43}")


def test_a_token_is_shown_once_with_the_entry_for_the_configuration(tmp_path):
    done = run("callers", "new", "catalogue", "--client", "hk-sandbox", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    (token,) = TOKEN.findall(done.stdout)
    (entry,) = yaml.safe_load(done.stdout[done.stdout.index("  - name:") :])
    assert entry == {
        "name": "catalogue",
        "token_sha256": hashlib.sha256(token.encode()).hexdigest(),
        "clients": ["hk-sandbox"],
    }
    assert list(tmp_path.iterdir()) == []


def test_a_program_gets_the_same(tmp_path):
    made = [
        json.loads(run("callers", "new", "a", "--json", cwd=tmp_path).stdout)
        for _ in range(2)
    ]
    tokens = {each["token"] for each in made}
    assert len(tokens) == 2
    for each in made:
        assert TOKEN.fullmatch(each["token"])
        digest = hashlib.sha256(each["token"].encode()).hexdigest()
        assert each == {"name": "a", "token": each["token"], "token_sha256": digest}


@pytest.mark.parametrize("name", ["", "a b", "a\nb", "-a", "x" * 65, "é"])
def test_a_name_that_could_not_stand_in_the_configuration_is_refused(tmp_path, name):
    done = run("callers", "new", "--json", "--", name, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 1


def test_the_help_teaches_by_example(tmp_path):
    for words in (["callers", "--help"], ["callers", "new", "--help"]):
        assert "gateway callers new catalogue" in run(*words, cwd=tmp_path).stdout
