"""Addresses that lead to no cluster: told apart in a line, within seconds."""

import http.server
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from lungforge.errors import InputError
from services.common.ray_address import CHECK_S, check_address


@pytest.fixture
def web_server() -> Iterator[int]:
    """The port of an HTTP server."""
    server = http.server.ThreadingHTTPServer(("0.0.0.0", 0), http.server.BaseHTTPRequestHandler)
    server.RequestHandlerClass.log_message = lambda *_: None  # type: ignore[method-assign]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("http://127.0.0.1:8265", r"dashboard's URL; .*`lungforge submit --address http://127\.0\.0\.1:8265"),
        (" https://head.lab ", "dashboard's URL; .*unset RAY_ADDRESS"),
        ("http://me:secret@head:8265", "'http://head:8265', which is a dashboard's URL"),
        ("ray://head:10001", "is for Ray Client"),
        ("127.0.0.1:1", r"127\.0\.0\.1:1'.*no Ray cluster there \(connection refused\)"),
        ("no-such-host.invalid:6379", r"there is no host no-such-host\.invalid"),
        ("6379", "RAY_ADDRESS is '6379'; give HOST:6379"),
        ("head", "give HOST:6379"),
        ("head:port", "give HOST:6379"),
        ("head:99999", "give HOST:6379"),
        ("redis://head:6379", "give HOST:6379"),
        ("fe80::1:6379", "give HOST:6379"),
        ("[::1]:1", r"\[::1\]:1.*no Ray cluster there|there is no host ::1"),
    ],
)
def test_what_is_wrong_with_an_address_is_said(
    monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("RAY_ADDRESS", address.strip())
    with pytest.raises(InputError, match=message) as error:
        check_address(address)
    assert "\n" not in str(error.value)
    assert "secret" not in str(error.value)


def test_a_server_of_another_kind_is_no_head(monkeypatch: pytest.MonkeyPatch, web_server: int) -> None:
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{web_server}")
    with pytest.raises(InputError, match=r"something answers there that is no Ray head; .*8265"):
        check_address(f"127.0.0.1:{web_server}")


def test_one_that_listens_and_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("0.0.0.0", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        started = time.monotonic()
        with pytest.raises(InputError, match=r"no Ray head|no answer within"):
            check_address(address)
        assert time.monotonic() - started < CHECK_S + 2


def test_a_name_that_is_looked_up_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    released = threading.Event()
    monkeypatch.setattr("services.common.ray_address.CHECK_S", 0.2)
    monkeypatch.setattr("services.common.ray_address._check", lambda *_: released.wait(60))
    with pytest.raises(InputError, match=r"no answer within 0\.2 s"):
        check_address("head:6379")
    released.set()


@pytest.mark.ray
def test_a_cluster_that_runs_here_passes(ray_local: None, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    monkeypatch.setenv("RAY_ADDRESS", address)
    check_address(address)
    monkeypatch.setattr("ray.__version__", "2.9.0")
    with pytest.raises(InputError, match=r"the cluster runs Ray 2\.\d+\.\d+, and this is Ray 2\.9\.0"):
        check_address(address)
    monkeypatch.undo()
    monkeypatch.setenv("RAY_ADDRESS", address)
    monkeypatch.setattr("services.common.ray_address._is_here", lambda host: False)
    with pytest.raises(InputError, match=r"this machine is none of the 1 hosts of that cluster; .*submit"):
        check_address(address)
