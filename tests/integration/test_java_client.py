"""Java's own HTTP client, which offers HTTP/2 by an upgrade over plain http."""

import asyncio
import shutil
import subprocess

import pytest

from tests import peer

JAVA = shutil.which("java")
PROGRAM = """
import java.net.URI;
import java.net.http.*;

public class Ask {
    public static void main(String[] args) throws Exception {
        HttpClient client = HttpClient.newHttpClient();
        for (int i = 0; i < 3; i++) {
            var body = HttpRequest.BodyPublishers.ofString(args[1]);
            var request = HttpRequest.newBuilder(URI.create(args[0])).POST(body).build();
            var answer = client.send(request, HttpResponse.BodyHandlers.ofString());
            System.out.println(answer.statusCode() + " " + answer.version() + " "
                + answer.headers().firstValue("Gateway-Verified").orElse("-"));
        }
    }
}
"""


@pytest.mark.skipif(JAVA is None, reason="no java on this machine")
async def test_javas_default_client_is_answered_and_keeps_its_connection(
    run_house, tmp_path
):
    program = tmp_path / "Ask.java"
    program.write_text(PROGRAM)
    async with run_house(inbound={"hosts": []}) as house:
        url = f"http://localhost:{house.caller.port}{peer.TARGET}"
        command = [JAVA, "-Xint", str(program), url, peer.REQUEST_BODY.decode()]
        done = await asyncio.to_thread(
            subprocess.run,
            command,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert (done.stderr, done.stdout.splitlines()) == (
            "",
            ["200 HTTP_1_1 true"] * 3,
        )
        bodies = [each.body for each in house.wallet.arrived]
        assert bodies == [peer.REQUEST_BODY] * 3
        assert house.events("loop_error") == []
