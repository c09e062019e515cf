"""What stores and settings do wrong is one line: the place, what came, and what would do."""

import re
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from lungforge.errors import AccessError, AccessRefusedError, InputError
from lungforge.storage import open_uri, read_bytes, s3, write_bytes_atomic
from lungforge.storage.reading import list_folder, read_range
from tests.small_store import DROP, Answer, SmallStore, refusal

URI = "s3://lab/folder"
FILE = f"{URI}/file"
READ = (lambda: list_folder(URI), lambda: read_bytes(FILE))
WRITE = (lambda: write_bytes_atomic(FILE, b"1"), lambda: write_bytes_atomic(FILE, b"1", exclusive=True))


@pytest.fixture
def store(small_store: SmallStore) -> SmallStore:
    small_store.objects["folder/file"] = b"content"
    return small_store


def message(call, family: type[AccessError]) -> str:
    """What the call says; it is an error of exactly that family, in one line that names the place."""
    with pytest.raises(AccessError) as error:
        call()
    told = str(error.value)
    assert type(error.value) is family, told
    assert told.startswith(URI)
    assert "\n" not in told
    return told


LASTING = [
    (403, "AccessDenied", "access denied .* check AWS_ACCESS_KEY_ID.* policy of the bucket"),
    (403, "SignatureDoesNotMatch", "access denied .* check AWS_ACCESS_KEY_ID"),
    (403, "InvalidAccessKeyId", "access denied .* check AWS_ACCESS_KEY_ID"),
    (401, "Unauthorized", "access denied .* check AWS_ACCESS_KEY_ID"),
    (400, "ExpiredToken", "credentials have expired .* AWS_SESSION_TOKEN"),
    (403, "ExpiredToken", "credentials have expired"),
    (400, "InvalidToken", "credentials have expired"),
    (403, "RequestTimeTooSkewed", "set the clock of this machine"),
    (403, "InvalidObjectState", "restore it from the archive"),
    (404, "NoSuchBucket", "no such bucket; make it first"),
    (405, "MethodNotAllowed", "check AWS_ENDPOINT_URL, or use another store"),
    (400, "InvalidRequest", "check AWS_ENDPOINT_URL, or use another store"),
]


def test_what_the_user_must_mend(store):
    for status, code, remedy in LASTING:
        answer = refusal(status, code, "words of the store")
        store.manner = lambda request, answer=answer: answer
        for call in READ + WRITE:
            told = message(call, AccessRefusedError)
            assert code == "NoSuchBucket" or f"{code}: words of the store" in told  # also behind a HEAD
            assert re.search(remedy, told), told


PASSING = [
    (500, "InternalError", "out of order"),
    (503, "SlowDown", "out of order"),
    (429, "TooManyRequests", "out of order"),
    (400, "RequestTimeout", "out of order"),
    (507, "XMinioStorageFull", "no space left"),
    (403, "QuotaExceeded", "no space left"),
]


def test_what_may_mend_itself(store):
    for status, code, told in PASSING:
        answer = refusal(status, code)
        store.manner = lambda request, answer=answer: answer
        for call in READ + WRITE:
            assert told in message(call, AccessError)


@pytest.mark.parametrize(
    "answer",
    [
        refusal(
            400, "AuthorizationHeaderMalformed", "expecting 'eu-central-1'", "<Region>eu-central-1</Region>"
        ),
        refusal(301, "PermanentRedirect", "elsewhere", **{"x-amz-bucket-region": "eu-central-1"}),
    ],
    ids=["signed for another", "bucket in another"],
)
def test_a_wrong_region_is_named_with_the_right_one(store, answer):
    store.manner = lambda request: answer
    for call in READ + WRITE:
        assert re.search(
            r"wrong region .* AWS_DEFAULT_REGION=eu-central-1", message(call, AccessRefusedError)
        )


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no S3 credentials .* set AWS_ACC"),
        (
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            "no S3 credentials .* set AWS_ACCESS_KEY_ID",
        ),
        ({"AWS_SECRET_ACCESS_KEY": None}, "no S3 credentials .*AWS_SECRET_ACCESS_KEY"),
        ({"AWS_PROFILE": "nobody"}, "no S3 credentials .*nobody.* check AWS_PROFILE"),
        (
            {"AWS_ENDPOINT_URL": "HOST"},
            r"AWS_ENDPOINT_URL is no URL \(HOST\); write http://HOST or https://HOST",
        ),
        ({"AWS_ENDPOINT_URL": "localhost"}, "AWS_ENDPOINT_URL is no URL .* write http://localhost"),
        ({"AWS_ENDPOINT_URL": "http//HOST"}, "write http://HOST or https://HOST"),
        ({"AWS_ENDPOINT_URL": "ftp://HOST"}, "settings of AWS are wrong .*ftp://HOST"),
        ({"AWS_ENDPOINT_URL": "https://HOST"}, "no secure connection .* check http:// or https://"),
        ({"AWS_ENDPOINT_URL": "https://HOST", "AWS_CA_BUNDLE": "/no/such.pem"}, "check AWS_CA_BUNDLE"),
        ({"AWS_ENDPOINT_URL": "http://no-such-host.invalid"}, "cannot be reached .* check AWS_ENDPOINT_URL"),
        ({"AWS_MAX_ATTEMPTS": "many"}, "settings of AWS are wrong .*many"),
        ({"AWS_DEFAULT_REGION": "no region!"}, "settings of AWS are wrong .*no region!"),
        ({"AWS_REQUEST_CHECKSUM_CALCULATION": "never"}, "settings of AWS are wrong .*never"),
        ({"AWS_CONFIG_FILE": __file__}, "settings of AWS are wrong .*test_s3_errors"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_wrong_settings_are_named(store, monkeypatch, settings, remedy):
    for name, value in settings.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value.replace("HOST", store.host))
    for call in (READ[0], WRITE[1]):  # a client is made anew for each
        told = message(call, AccessRefusedError)
        assert re.search(remedy.replace("HOST", store.host), told), told
    assert not store.requests


def test_an_address_where_nobody_has_ever_answered_is_wrong_and_a_store_that_leaves_may_return(
    store, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        host = f"127.0.0.1:{taken.getsockname()[1]}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}")
    assert "S3 cannot be reached" in message(READ[1], AccessRefusedError)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{store.host}")
    assert read_bytes(FILE) == b"content"
    store.manner = lambda request: DROP
    store.shutdown()
    store.server_close()
    assert "check AWS_ENDPOINT_URL, or try again later" in message(READ[1], AccessError)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate")
def test_a_certificate_that_is_not_trusted_is_not_tried_again(store, monkeypatch, tmp_path: Path):
    key, certificate = tmp_path / "key", tmp_path / "certificate"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    names = ["-subj", "/CN=store", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", key, "-out", certificate], check=True, stderr=subprocess.DEVNULL
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    store.socket = context.wrap_socket(store.socket, server_side=True)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"https://{store.host}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "9")
    started = time.monotonic()
    assert "set AWS_CA_BUNDLE to the store's certificate" in message(READ[0], AccessRefusedError)
    assert time.monotonic() - started < 5
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate))
    assert [entry.name for entry in list_folder(URI)] == ["file"]


def test_connections_that_are_dropped(store):
    store.manner = lambda request: DROP
    for call in READ + WRITE:
        assert "S3 cannot be reached" in message(call, AccessError)
    store.manner = lambda request: DROP if request.method == "PUT" else None
    for call in WRITE:
        assert "S3 cannot be reached" in message(call, AccessError)


def test_a_body_that_breaks_off_is_read_again_and_then_told(store):
    cut = Answer(200, b"content", {"ETag": '"1"'}, sent=3)
    store.manner = lambda request: cut if request.method == "GET" else None
    assert "the answer of the store broke off" in message(READ[1], AccessError)
    store.requests.clear()
    store.manner = lambda request: cut if request.method == "GET" and len(store.requests) < 3 else None
    assert read_bytes(FILE) == b"content"
    assert read_range(FILE, 0, 3) == b"con"


def test_a_web_server_is_no_store(store):
    store.manner = lambda request: Answer(200, b"<html>Console</html>", {"Content-Type": "text/html"})
    for call in READ + WRITE:
        assert "what answers is no S3 (a page of HTML); check AWS_ENDPOINT_URL" in message(
            call, AccessRefusedError
        )
    store.manner = lambda request: None
    store.objects["folder/page.html"] = b"<html>"
    assert read_bytes(f"{URI}/page.html") == b"<html>"


def test_a_store_without_checksums_is_named_with_the_setting_that_helps(store, monkeypatch):
    def without_checksums(request):
        known = not any(name.startswith(("x-amz-checksum", "x-amz-sdk-checksum")) for name in request.headers)
        return None if known or request.method != "PUT" else refusal(501, "NotImplemented", "A header")

    store.manner = without_checksums
    for call in WRITE:
        assert "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required" in message(call, AccessRefusedError)
    monkeypatch.setenv("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    write_bytes_atomic(f"{URI}/new", b"1", exclusive=True)
    assert store.objects["folder/new"] == b"1"


@pytest.mark.parametrize(
    ("uri", "reason"),
    [("gs://lab/x", "gcsfs"), ("abfs://lab/x", "adlfs"), ("nonsense://lab/x", "not known")],
)
def test_a_scheme_that_cannot_be_opened_is_named_with_what_would_do(uri, reason):
    with pytest.raises(InputError, match=rf"^{uri}: .*{reason}.* a local path or s3://BUCKET/FOLDER$"):
        open_uri(uri)


def test_s3a_is_s3(store):
    assert read_bytes("s3a://lab/folder/file") == b"content"
    write_bytes_atomic("s3a://lab/folder/new", b"1", exclusive=True)
    assert [entry.uri for entry in list_folder("s3a://lab/folder")] == [FILE, f"{URI}/new"]


def test_waiting_is_told_and_a_request_is_tried_as_often_as_is_said(store, monkeypatch, caplog):
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "3")
    monkeypatch.setenv("AWS_RETRY_MODE", "standard")
    monkeypatch.setattr(s3, "TOLD_AFTER_S", 0.01)
    monkeypatch.setattr(s3, "TOLD_EVERY_S", 0.01)
    store.manner = lambda request: refusal(503, "SlowDown")
    message(READ[0], AccessError)
    assert len(store.requests) == 3
    told = [record.getMessage() for record in caplog.records if record.name == s3.__name__]
    assert f"S3 does not answer, try 2 of 3 ({URI})" in told
    assert not any("try 1 of" in line for line in told)


def test_an_answer_or_a_body_that_does_not_come_is_told(store, monkeypatch, caplog):
    for name in ("TOLD_AFTER_S", "TOLD_EVERY_S", "TOLD_UNTRIED_AFTER_S"):
        monkeypatch.setattr(s3, name, 0.01)
    told = lambda: [record for record in caplog.records if "S3 has not answered for" in record.getMessage()]  # noqa: E731

    def answers_once_it_is_told(request):
        deadline = time.monotonic() + 10
        while not told() and time.monotonic() < deadline:
            time.sleep(0.01)

    store.manner = answers_once_it_is_told
    assert read_bytes(FILE) == b"content"
    assert FILE in told()[0].getMessage()
