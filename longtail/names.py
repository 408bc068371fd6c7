"""Names that become parts of keys and URLs: checked once, at the edge."""

from __future__ import annotations

import re

from longtail.errors import InvalidRequest

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


def check_name(name: str, *, what: str) -> str:
    """The name itself, if it is 1 to 63 lower-case letters, digits, '-' or '_'."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{what} {name!r}: expected 1 to 63 of a-z, 0-9, '-' and '_', beginning with a letter or digit")
    return name


def check_relative(path: str, *, what: str) -> str:
    """The path itself, if it stays below where it starts: no '..', no leading '/', no NUL or backslash."""
    if not path or path.startswith("/") or "\\" in path or "\0" in path or any(p in ("..", ".", "") for p in path.split("/")):
        raise InvalidRequest(f"{what} {path!r}: expected a relative path without '..', '.' or empty parts")
    return path


def split_uri(uri: str) -> tuple[str, str]:
    """(bucket, prefix) of s3://bucket/prefix, the prefix without slashes at its ends."""
    if not uri.startswith("s3://"):
        raise InvalidRequest(f"uri {uri!r}: expected s3://bucket/prefix")
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    if not _BUCKET.fullmatch(bucket):
        raise InvalidRequest(f"uri {uri!r}: bucket {bucket!r} is not a valid bucket name (3 to 63 of a-z, 0-9, '.', '-')")
    prefix = prefix.strip("/")
    if prefix:
        check_relative(prefix, what="prefix")
    return bucket, prefix
