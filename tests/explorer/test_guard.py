"""Who may ask: a matrix of what other pages, other names and old addresses would try."""

from __future__ import annotations

import socket

import httpx
import pytest

from deconvviz import explore

from .conftest import Page, content, picture, small

PATHS = [
    ("GET", "/"), ("GET", "/api/model"), ("GET", "/api/health"), ("POST", "/api/pictures"),
    ("GET", "/api/pictures/0123456789abcdef"), ("GET", "/api/pictures/0123456789abcdef/heat"),
    ("GET", "/api/store/unit"), ("GET", "/nowhere"),
]  # fmt: skip
BOUND = {
    "x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store",
    "cross-origin-resource-policy": "same-origin", "x-frame-options": "DENY",
}  # fmt: skip


def bare(page: Page, method: str, path: str, **headers: str | bytes) -> httpx.Response:
    """A request of somebody who has no token, or brings one among the headers."""
    sent = {name: value if isinstance(value, bytes) else value.encode() for name, value in headers.items()}
    return httpx.request(method, page.base + path, headers=sent, content=b"x" if method == "POST" else None)


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_nothing_without_the_token(page: Page, method: str, path: str, token: str | None) -> None:
    headers = {} if token is None else {"X-Token": token.encode()}
    assert bare(page, method, path, **headers).status_code == 403
    assert bare(page, method, f"{path}?token={token}", **headers).status_code == 403


@pytest.mark.parametrize(("method", "path"), PATHS[1:])
def test_the_address_alone_opens_the_page_and_nothing_else(page: Page, method: str, path: str) -> None:
    assert bare(page, "GET", f"/?token={page.token}").status_code == 200
    assert bare(page, method, f"{path}?token={page.token}").status_code == 403


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "host",
    ["example.com", "example.com:80", "127.0.0.1.example.com", "localhost.example.com:8080", "10.0.0.1", "0.0.0.0", "",
     "127.0.0.1@example.com", "[::2]:80"],
)  # fmt: skip
def test_nothing_by_another_name(page: Page, method: str, path: str, host: str) -> None:
    answer = bare(page, method, f"{path}?token={page.token}", Host=host, **{"X-Token": page.token})
    assert answer.status_code == 403
    assert page.token not in answer.text


@pytest.mark.parametrize("host", ["localhost", "localhost:9", "127.0.0.1:9", "[::1]:9"])
def test_a_forwarded_port_is_no_other_name(page: Page, host: str) -> None:
    answer = bare(page, "GET", "/api/health", Host=host, Origin=f"http://{host}", **{"X-Token": page.token})
    assert answer.status_code == 200


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize("origin", ["https://example.com", "null", "http://127.0.0.1:1", "http://localhost", "file://"])
def test_nothing_for_a_page_of_another_origin(page: Page, method: str, path: str, origin: str) -> None:
    answer = bare(page, method, f"{path}?token={page.token}", Origin=origin, **{"X-Token": page.token})
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


def test_two_names_are_none(page: Page) -> None:
    name, _, port = page.base.removeprefix("http://").partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as link:
        link.sendall(
            f"GET /api/health HTTP/1.1\r\nHost: {name}:{port}\r\nHost: example.com\r\nX-Token: {page.token}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        said = b"".join(iter(lambda: link.recv(4096), b""))
    assert said.split()[1] in (b"400", b"403")


@pytest.mark.parametrize("path", ["/", "/api/model", "/api/nothing", "/page/nothing.js", "/api/pictures/zz/units"])
@pytest.mark.parametrize("known", [True, False])
def test_every_answer_binds_the_page(page: Page, path: str, known: bool) -> None:
    headers = {"X-Token": page.token} if known else {}
    answer = bare(page, "GET", path, **headers)
    assert BOUND.items() <= dict(answer.headers).items()
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'" and policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert "server" not in answer.headers
    if path.startswith("/api/"):
        assert list(answer.json()) == ["error"] or answer.status_code == 200


def test_the_page_needs_nothing_that_the_policy_forbids(page: Page) -> None:
    text = bare(page, "GET", f"/?token={page.token}").text
    for forbidden in ("<style", " style=", "onclick=", "onload=", "http://", "https://", "javascript:"):
        assert forbidden not in text.lower(), forbidden
    assert "<script>" not in text


@pytest.mark.parametrize(
    "path",
    ["/page/../app.py", "/page/..%2fapp.py", "/page/%2e%2e/app.py", "/page/%2fetc%2fpasswd", "/page//etc/passwd",
     "/page/index.html", "/page/", "/page/..%5capp.py", "/../../etc/passwd", "/page/%00"],
)  # fmt: skip
def test_no_path_of_a_page_becomes_a_file(page: Page, path: str) -> None:
    name, _, port = page.base.removeprefix("http://").partition(":")
    with socket.create_connection((name, int(port)), timeout=30) as link:  # as it is: clients tidy paths
        link.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nX-Token: {page.token}\r\nConnection: close\r\n\r\n".encode()
        )
        said = b"".join(iter(lambda: link.recv(4096), b""))
    assert said.split()[1] == b"404"
    assert b"root:" not in said and b"import" not in said


@pytest.mark.parametrize(("method", "path"), [("PUT", "/api/pictures"), ("DELETE", "/"), ("POST", "/api/model"),
                                              ("GET", "/api/pictures"), ("OPTIONS", "/api/model")])  # fmt: skip
def test_other_methods_are_refused(page: Page, method: str, path: str) -> None:
    answer = page.http.request(method, path)
    assert answer.status_code in (404, 405) and answer.json().keys() == {"error"}


def test_it_listens_to_this_machine_alone(page: Page) -> None:
    port = int(page.base.rpartition(":")[2])
    with socket.socket() as other:
        other.settimeout(2)
        address = _other_address()
        if address is None:
            pytest.skip("this machine has no other address")
        with pytest.raises(OSError):
            other.connect((address, port))


def _other_address() -> str | None:
    found = {info[4][0] for info in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
    return next((str(address) for address in found if not str(address).startswith("127.")), None)


def test_each_start_has_its_own_token_and_an_old_page_is_told(page: Page) -> None:
    net = small()
    with explore(net) as before:
        port, old = int(before.url.split(":")[2].split("/")[0]), before.url
    with explore(net, port=port) as after:
        assert after.url != old and after.url.split("?")[0] == old.split("?")[0]
        answer = httpx.get(f"{old.split('?')[0]}api/health", headers={"X-Token": old.partition("=")[2]})
        assert answer.status_code == 403
        assert answer.json()["error"] == (
            "this address is of an earlier start of deconvviz explore: open the one that it has printed"
        )
        shown = httpx.get(old)
        assert shown.status_code == 403 and "earlier start" in shown.text and shown.text.count("\n") == 1


def test_a_picture_of_an_earlier_start_is_asked_for_again(page: Page) -> None:
    answer = page.get("pictures/0123456789abcdef")
    assert (answer.status_code, answer.json()) == (404, {"error": "this picture is not here any more: drop it again"})
    assert page.send(content(picture(7)), "again.png").status_code == 200
