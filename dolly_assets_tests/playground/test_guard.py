"""Only pages of this server talk to it, and what it shows loads from nowhere else."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect

from dolly_assets.playground.guard import Guard
from dolly_assets.playground.safe_text import markdown


async def echo(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")
    await socket.close()


@pytest.fixture(scope="module")
def client() -> TestClient:
    app = Starlette(
        routes=[
            Route("/", lambda _: PlainTextResponse("page")),
            WebSocketRoute("/socket", echo),
        ]
    )
    guarded = Guard(app, {"127.0.0.1", "::1"}, "<script>let ours = 1</script>")  # pyright: ignore[reportArgumentType]
    return TestClient(guarded, base_url="http://127.0.0.1:3002")


def test_pages_may_load_from_this_server_alone(client: TestClient) -> None:
    policy = client.get("/").headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "script-src 'self' 'sha256-" in policy
    assert "http" not in policy
    assert "unsafe-eval" not in policy


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1.evil.example"},
        {"Host": "["},
        {"Host": "127.0.0.1:3002", "Origin": "http://evil.example"},
        {"Host": "127.0.0.1:3002", "Origin": "null"},
    ],
)
def test_other_sites_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/", headers=headers).status_code == 421
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect("/socket", headers=headers) as socket,
    ):
        socket.receive_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.1:3002", "[::1]:3002"])
def test_pages_of_this_server_are_answered(client: TestClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert client.get("/", headers=headers).text == "page"
    with client.websocket_connect("/socket", headers=headers) as socket:
        assert socket.receive_text() == "hello"


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("![a](https://evil.example/p.png)", r"!\[a](https://evil.example/p.png)"),
        ("![a][b]\n\n[b]: https://evil.example/", "!\\[a][b]\n\n[b]: https://evil.example/"),
        (":red[Danger] at 10:30", r"\:red[Danger] at 10:30"),
        ("`![a](b)` and ![c](d)", r"`![a](b)` and !\[c](d)"),
        ("```md\n![a](b)\n```\n![c](d)", "```md\n![a](b)\n```\n!\\[c](d)"),
        ("```\n![a](b)", "```\n![a](b)"),
        ("Hello!", "Hello!"),
        ("a ` b ![c](d)", r"a ` b !\[c](d)"),
    ],
)
def test_images_and_directives_are_shown_as_written_and_code_as_it_is(
    written: str, shown: str
) -> None:
    assert markdown(written) == shown
