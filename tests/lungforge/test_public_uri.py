"""What of a URI may be seen, and that nothing of it is lost that may."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lungforge.errors import InputError
from lungforge.public_uri import (
    json_bytes,
    public_message,
    public_text,
    public_uri,
    require_public,
    require_public_environment,
)

SECRET = "5ecretW0rd"

#: URI with a secret, and what is public of it.
SECRETS = [
    (f"https://me:{SECRET}@host/luna16", "https://host/luna16"),
    (f"HTTPS://me:{SECRET}@host:8443/luna16", "HTTPS://host:8443/luna16"),
    (f"https://{SECRET}@host/luna16", "https://host/luna16"),  # a token in place of a user name
    (f"https://me:{SECRET}@[::1]:9000/luna16", "https://[::1]:9000/luna16"),
    (f"https://me@lab.org:{SECRET}@host/luna16", "https://host/luna16"),
    (f"https://me:{SECRET}/a+b@host/luna16", "https://host/luna16"),  # a slash that is not encoded
    (f"https://me:{SECRET}?#@host/luna16", "https://host/luna16"),
    (f"sftp://me:{SECRET}@host/luna16", "sftp://host/luna16"),
    (f"sftp://me%3A{SECRET}@host/luna16", "sftp://host/luna16"),
    (f"abfs://slices:{SECRET}@lab.dfs.core.windows.net/a", "abfs://lab.dfs.core.windows.net/a"),
    (f"s3://AKIA7:{SECRET}@lab/luna16", "s3://lab/luna16"),
    (f"s3://AKIA7:{SECRET}/a+b=@lab/luna16", "s3://lab/luna16"),
    (f"s3://AKIA7:12/{SECRET}@lab/luna16", "s3://lab/luna16"),
    (f"s3://{SECRET}@lab/luna16", "s3://lab/luna16"),
    (f"ray://me:{SECRET}@head:10001", "ray://head:10001"),
    (f"https://host/a?X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature={SECRET}", "https://host/a"),
    (f"https://host/a?AWSAccessKeyId=AKIA7&Signature={SECRET}&Expires=1", "https://host/a"),
    (f"https://lab.blob.core.windows.net/a/b?sv=2024-11-04&sp=r&sig={SECRET}", "https://lab.blob.core.windows.net/a/b"),
    (f"https://host/a?X-Goog-Signature={SECRET}", "https://host/a"),
    (f"https://host/a?alt=media&token={SECRET}", "https://host/a?alt=media"),
    (f"https://host/a?download=1&k={SECRET}", "https://host/a?download=1"),
    (f"https://host/a?{SECRET}", "https://host/a"),
    (f"https://host/a?b={SECRET}?c", "https://host/a"),
    (f"https://host/a#access_token={SECRET}", "https://host/a"),
    (f"s3://lab/a?X-Amz-Security-Token={SECRET}", "s3://lab/a"),
    (f"s3://lab/a?key=AKIA7&secret={SECRET}", "s3://lab/a"),
    (f"gs://lab/a?token={SECRET}", "gs://lab/a"),
]  # fmt: skip
#: What has none.
PUBLIC = [
    "/data/luna16",
    "data/a:b@c?d=e",
    "file:///data/me@lab/what?",
    "s3://lab/luna16",
    "s3://lab/me@lab.org/a:b/year=2020/x",
    "s3://lab/scan#1/a=b/what?.mhd",
    "s3://lab/what?/a=b",
    "s3://lab/a?versionId=3/L4kqtJlcpXro",
    "s3://arn:aws:s3:eu-central-1:123456789012:accesspoint/lab/a@b",
    "http://127.0.0.1:8265",
    "http://[::1]:8265/a@b",
    "http://HOST:PORT",
    "http://host:9000/a/b@c",
    "https://host/weights.pth?download=true",
    "https://host/a?alt=media&generation=17#readme",
    "sftp://alice@host/data",
    "abfss://slices@lab.dfs.core.windows.net/a",
    "memory://a",
    "auto",
    "",
]


@pytest.mark.parametrize(("uri", "public"), SECRETS)
def test_a_secret_is_taken_out_of_a_uri(uri: str, public: str) -> None:
    assert public_uri(uri) == public
    assert public_uri(public) == public
    assert public_text(f"cannot read '{uri}', try again") == f"cannot read '{public}', try again"
    assert public_text(f"zip://a.mhd::{uri}").find(SECRET) == -1


@pytest.mark.parametrize("uri", PUBLIC)
def test_all_else_is_left_as_it_is(uri: str) -> None:
    assert public_uri(uri) == uri
    assert public_text(f"cannot read '{uri}', try again ({uri}).") == (
        f"cannot read '{uri}', try again ({uri})."
    )
    require_public("--source", uri)


@pytest.mark.parametrize("uri", [uri for uri, _ in SECRETS])
@pytest.mark.parametrize("form", ["{}", "--source={}", "simplecache::{}", " {} "])
def test_a_secret_is_refused_and_not_repeated(uri: str, form: str) -> None:
    with pytest.raises(InputError, match=r"^--source has a (user name or password|query) in a URI") as error:
        require_public("--source", form.format(uri))
    assert SECRET not in str(error.value)
    assert "AWS_ACCESS_KEY_ID" in str(error.value)


def test_a_password_with_a_space_is_one_too() -> None:
    with pytest.raises(InputError, match="password"):
        require_public("--source", f"https://me:my {SECRET}@host/luna16")


@given(
    st.sampled_from(["https", "s3", "sftp", "abfs", "ftp"]),
    st.text(st.characters(exclude_characters="/?#@[", exclude_categories=["Z", "C"]), min_size=1),
)
def test_no_password_is_accepted(scheme: str, password: str) -> None:
    uri = f"{scheme}://me:{password}@host/a"
    assert public_uri(uri) == f"{scheme}://host/a"
    with pytest.raises(InputError, match="password"):
        require_public("--out", uri)


def test_a_document_is_written_without_secrets() -> None:
    document = {
        "b": [f"https://me:{SECRET}@host/a", 1.5, None, {"c": (f"bad: s3://k:{SECRET}@lab",)}],
        "a": "é",
    }
    assert (
        json_bytes(document)
        == (
            '{\n "a": "é",\n "b": [\n  "https://host/a",\n  1.5,\n  null,\n'
            '  {\n   "c": [\n    "bad: s3://lab"\n   ]\n  }\n ]\n}\n'
        ).encode()
    )
    with pytest.raises(ValueError, match="JSON"):
        json_bytes({"a": float("nan")})
    assert json.loads(json_bytes({"a": [f"https://host/?sig={SECRET}"]})) == {"a": ["https://host/"]}


def test_a_message_has_no_secret_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "abc/def+hunter2")
    monkeypatch.setenv("FSSPEC_S3_KEY", "an-id-of-a-key")
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", "AccountKey=u7u7u7")
    monkeypatch.setenv("HTTPS_PROXY", "http://me:of-the-proxy@proxy:3128")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/home/me/token")
    monkeypatch.setenv("LAB_TOKEN", "7")  # too short to be one, and part of many words
    assert (
        public_message("7: abc/def+hunter2, an-id-of-a-key, AccountKey=u7u7u7, of-the-proxy, /home/me/token")
        == "7: ***, ***, ***, ***, /home/me/token"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", f"http://me:{SECRET}@127.0.0.1:9000"),
        ("AWS_ENDPOINT_URL", f"me:{SECRET}@127.0.0.1:9000"),
        ("AWS_ENDPOINT_URL_S3", f"https://host?token={SECRET}"),
        ("RAY_ADDRESS", f"ray://me:{SECRET}@head:10001"),
        ("RAY_ADDRESS", f"{SECRET}@head:6379"),
        ("RAY_API_SERVER_ADDRESS", f"http://me:{SECRET}@head:8265"),
    ],
)
def test_the_address_of_a_service_has_no_secret(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    require_public_environment()
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"^{name} has a") as error:
        require_public_environment()
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:9000"),
        ("AWS_ENDPOINT_URL", "127.0.0.1:9000"),
        ("RAY_ADDRESS", "auto"),
        ("RAY_ADDRESS", "10.0.0.7:6379"),
        ("HTTPS_PROXY", f"http://me:{SECRET}@proxy:3128"),
    ],
)
def test_other_addresses_and_proxies_are_the_users(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    require_public_environment()
