"""URIs without secrets: what may be taken from a user, written to a document, and said in a message.

A password, token or signed query in a URI would stand in manifests, reports, logs, job metadata and ``ps``.
So no option takes one (``lungforge/config.py``), documents are written by ``json_bytes``, and messages pass
``public_message``. What is accepted is what ``public_uri`` leaves as it is.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import unquote

from lungforge.errors import InputError

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,20}://")
_URI = re.compile(rf"{_SCHEME.pattern}\S+")
#: What ends a sentence or a quotation, and not the URI in it.
_AFTER_URI = "\"'`)]}>,;:."
#: Of these, a user name without a password is a token or the id of a key. In others it is a user (sftp) or
#: a container (abfs).
_NO_USER = ("http", "https", "s3", "s3a", "gs", "gcs", "webdav", "dav", "davs")
#: Parameters of a query that choose what is read, and give no access to it.
_HARMLESS = frozenset(
    ("alt", "dl", "download", "generation", "raw", "ref", "revision", "version", "versionid")
)
#: Environment variables that hold the URI of a service, as LungForge's libraries read them.
_SERVICES = re.compile(r"AWS_ENDPOINT_URL(_\w+)?|RAY_(API_SERVER_)?ADDRESS")
#: Environment variables whose values are never shown, but for paths.
_SECRET = re.compile(r"SECRET|TOKEN|PASSW|CREDENTIAL|CONNECTION_STRING|ACCESS_?KEY|API_?KEY|_KEY$", re.I)
_PATH = re.compile(r"(_PATH|_FILE|_DIR|APPLICATION_CREDENTIALS)S?$", re.I)
#: Shorter values would match innocent words.
_SHORTEST_SECRET = 6

_REMEDY = (
    "leave it out, as it would be seen in manifests, logs and job lists: keys of S3 are read from "
    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY or AWS_PROFILE, those of others from ~/.config/fsspec"
)


def public_uri(uri: str) -> str:
    """The URI without user name, password, token and signature; a local path as it is."""
    scheme, mark, rest = uri.partition("://")
    if not mark:
        return uri
    return scheme + mark + _without_query(scheme.lower(), _without_user(scheme.lower(), rest))


def public_text(text: str) -> str:
    """The text with every URI in it as ``public_uri`` gives it."""

    def public(match: re.Match[str]) -> str:
        uri = match[0].rstrip(_AFTER_URI)
        after = match[0][len(uri) :]
        for start in reversed([inner.start() for inner in _SCHEME.finditer(uri)]):
            uri = uri[:start] + public_uri(uri[start:])  # each of simplecache::zip://a::https://b
        return uri + after

    return _URI.sub(public, text)


def public_json(value: Any) -> Any:
    """A JSON value with every text in it as ``public_text`` gives it."""
    if isinstance(value, Mapping):
        return {name: public_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(public_json, value))
    return public_text(value) if isinstance(value, str) else value


def json_bytes(document: Mapping[str, Any]) -> bytes:
    """A document as it is written: without secrets, sorted keys, one space of indentation, UTF-8."""
    text = json.dumps(public_json(document), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return f"{text}\n".encode()


def public_message(message: str) -> str:
    """``public_text``, also without the secrets of this process's environment."""
    message = public_text(message)
    for secret in _secrets_of_environment():
        message = message.replace(secret, "***")
    return message


def require_public(name: str, value: str) -> None:
    """Refuse a value, such as that of an option, that has a secret in a URI.

    Args:
        name: What to call it; part of the message, which the value is not.
        value: All of it, up to its end, is taken for one URI: a password may have a space.

    Raises:
        InputError: It has one.
    """
    for match in _SCHEME.finditer(value):
        scheme, rest = match[0][:-3].lower(), value[match.end() :]
        if _without_user(scheme, rest) != rest:
            raise InputError(f"{name} has a user name or password in a URI; {_REMEDY}")
        if _without_query(scheme, rest) != rest:
            raise InputError(f"{name} has a query in a URI, such as a token or signature; {_REMEDY}")


def require_public_environment() -> None:
    """Refuse a variable with the address of S3 or Ray that has a secret in it. Proxies may have one.

    Raises:
        InputError: Names the first such variable.
    """
    for name, value in sorted(os.environ.items()):
        if _SERVICES.fullmatch(name):
            require_public(name, value if "://" in value else f"http://{value}")


def _without_user(scheme: str, rest: str) -> str:
    """What follows ``SCHEME://``, without user name and password."""
    authority = re.split("[/?#]", rest, maxsplit=1)[0]
    user, at, _ = authority.rpartition("@")
    if at:
        return rest[len(user) + 1 :] if scheme in _NO_USER or ":" in unquote(user) else rest
    # A password with a slash looks like a port that is no number. A bucket has no port, but an ARN colons.
    host, colon, port = authority.partition(":")
    is_address = host.startswith("[") or host == "arn" or (port.isdigit() and not scheme.startswith("s3"))
    return rest.rpartition("@")[2] if colon and not is_address else rest


def _without_query(scheme: str, rest: str) -> str:
    """What follows ``SCHEME://``, without parameters that may give access."""
    path, query, fragment = re.fullmatch(r"([^?#]*)(\?[^#]*)?(#.*)?", rest, re.DOTALL).groups(default="")  # type: ignore[union-attr]
    given = re.split("[&;]", query[1:])
    if scheme not in ("http", "https"):  # names may have a question mark or a hash
        return rest if all(map(_is_harmless, given)) else path + fragment
    kept = [word for word in given if word and _is_harmless(word) and "=" in word]
    if "&".join(kept) != query[1:]:
        query = f"?{'&'.join(kept)}" if kept else ""
    return path + query + (fragment if all(map(_is_harmless, re.split("[&;]", fragment[1:]))) else "")


def _is_harmless(parameter: str) -> bool:
    """Whether it is a parameter that gives no access, or none at all."""
    match = re.match(r"([\w.%-]+)=", parameter)
    return match is None or match[1].lower() in _HARMLESS


def _secrets_of_environment() -> Iterator[str]:
    """Values of variables whose names say that they are secret, and passwords of proxies; longest first."""
    found = set()
    for name, value in os.environ.items():
        if _SECRET.search(name) and not _PATH.search(name):
            found.add(value)
        for user in re.findall(r"://([^/\s@]*)@", value):
            found.add(user.partition(":")[2])
    yield from sorted((one for one in found if len(one) >= _SHORTEST_SECRET), key=len, reverse=True)
