"""Objects in S3, through the MinIO client. Keys are content-addressed wherever we choose them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import urllib3
from minio import Minio
from minio.commonconfig import CopySource
from minio.error import MinioException, S3Error

from infra.settings import Settings
from longtail.errors import NotFound, SourceChanged, StorageUnavailable
from longtail.names import split_uri

T = TypeVar("T")
PART_BYTES = 16 << 20


@dataclass(frozen=True)
class ObjectInfo:
    """One listed object; `path` is relative to the prefix that was listed."""

    path: str
    uri: str
    etag: str
    size_bytes: int
    modified: datetime | None = None


class Objects:
    """Reads and writes by s3:// uri. Raises StorageUnavailable where the server does not answer."""

    def __init__(self, settings: Settings, *, bucket: str | None = None) -> None:
        pool = urllib3.PoolManager(maxsize=16, timeout=urllib3.Timeout(connect=3, read=30), retries=urllib3.Retry(2, backoff_factor=0.2))
        self.endpoint = settings.s3_endpoint
        self.bucket = bucket or settings.bucket
        self.client = Minio(
            endpoint=settings.s3_endpoint,
            access_key=settings.s3_access_key or None,
            secret_key=settings.s3_secret_key or None,
            secure=settings.s3_secure,
            region=settings.s3_region,
            http_client=pool,
        )

    def ensure_bucket(self, bucket: str | None = None) -> None:
        name = bucket or self.bucket
        self._call(name, lambda: None if self.client.bucket_exists(bucket_name=name) else self.client.make_bucket(bucket_name=name))

    def read(self, uri: str, *, etag: str | None = None) -> bytes:
        """The object's bytes. With `etag`, raises SourceChanged if it is not the one that was registered."""
        return self._read(uri, etag, 0, 0)

    def read_ends(self, uri: str, *, etag: str, size_bytes: int, head: int, tail: int) -> tuple[bytes, bytes]:
        """(first `head` bytes, last `tail` bytes); one request where the object is not much longer than both."""
        if size_bytes <= 4 * (head + tail):
            data = self._read(uri, etag, 0, 0)
            return data, data[-tail:]
        return self._read(uri, etag, 0, head), self._read(uri, etag, size_bytes - tail, tail)

    def _read(self, uri: str, etag: str | None, offset: int, length: int) -> bytes:
        bucket, key = split_uri(uri)

        def get() -> bytes:
            response = self.client.get_object(bucket_name=bucket, object_name=key, offset=offset, length=length)
            try:
                found = response.headers.get("ETag", "").strip('"')
                if etag and found and found != etag:
                    raise SourceChanged(f"{uri}: changed since it was registered (etag was {etag}, is {found}); register the dataset again")
                return bytes(response.read())
            finally:
                response.close()
                response.release_conn()

        return self._call(uri, get)

    def write(self, uri: str, data: bytes, *, content_type: str = "application/octet-stream") -> str:
        """Stores the bytes and returns their etag."""
        bucket, key = split_uri(uri)
        result = self._call(
            uri,
            lambda: self.client.put_object(
                bucket_name=bucket, object_name=key, data=BytesIO(data), length=len(data), content_type=content_type
            ),
        )
        return (result.etag or "").strip('"')

    def write_file(self, uri: str, path: Path, *, content_type: str = "application/octet-stream") -> None:
        """Stores a file, a part at a time."""
        bucket, key = split_uri(uri)
        self._call(uri, lambda: self.client.fput_object(bucket_name=bucket, object_name=key, file_path=str(path), content_type=content_type))

    def write_stream(self, uri: str, chunks: Iterator[bytes], *, content_type: str = "application/x-tar") -> str:
        """Stores what the chunks add up to, a part at a time, and returns its etag."""
        bucket, key = split_uri(uri)
        result = self._call(
            uri,
            lambda: self.client.put_object(
                bucket_name=bucket, object_name=key, data=Chunks(chunks), length=-1, part_size=PART_BYTES, content_type=content_type  # type: ignore[arg-type]
            ),
        )
        return (result.etag or "").strip('"')

    def write_addressed(self, prefix_uri: str, data: bytes, *, suffix: str, content_type: str) -> tuple[str, str]:
        """Stores the bytes under a name that is their hash; returns (uri, etag). Writing the same twice is harmless."""
        digest = hashlib.sha256(data).hexdigest()
        uri = f"{prefix_uri.rstrip('/')}/{digest[:2]}/{digest}{suffix}"
        return uri, self.write(uri, data, content_type=content_type)

    def list(self, uri: str) -> Iterator[ObjectInfo]:
        """Every object below the prefix. Raises NotFound where bucket or prefix has nothing."""
        bucket, prefix = split_uri(uri)
        start = f"{prefix}/" if prefix else ""
        if not self._call(uri, lambda: self.client.bucket_exists(bucket_name=bucket)):
            raise NotFound(f"bucket {bucket!r} does not exist on {self.endpoint}")
        found = self._call(uri, lambda: list(self.client.list_objects(bucket_name=bucket, prefix=start or None, recursive=True)))
        if not found:
            raise NotFound(f"nothing lies below {uri}")
        for item in found:
            key = item.object_name or ""
            if not item.is_dir:
                yield ObjectInfo(key.removeprefix(start), f"s3://{bucket}/{key}", (item.etag or "").strip('"'), item.size or 0, item.last_modified)

    def below(self, uri: str) -> Iterator[ObjectInfo]:
        """Every object below the prefix; nothing there is no error."""
        try:
            yield from self.list(uri)
        except NotFound:
            return

    def remove(self, uri: str) -> None:
        """Deletes one object; none there is no error."""
        bucket, key = split_uri(uri)
        self._call(uri, lambda: self.client.remove_object(bucket_name=bucket, object_name=key))

    def copy(self, source: str, target: str, *, etag: str) -> None:
        """Copies within the server. Raises SourceChanged where the source is not what was registered."""
        (bucket, key), (to_bucket, to_key) = split_uri(source), split_uri(target)
        found = self._call(source, lambda: self.client.stat_object(bucket_name=bucket, object_name=key))
        if etag and (found.etag or "").strip('"') != etag:
            raise SourceChanged(f"{source}: changed since it was registered; register the dataset again")
        self._call(target, lambda: self.client.copy_object(bucket_name=to_bucket, object_name=to_key, source=CopySource(bucket_name=bucket, object_name=key)))

    def remove_below(self, uri: str) -> int:
        """Deletes every object below the prefix; returns how many. Nothing there is no error."""
        bucket, prefix = split_uri(uri)
        if not prefix:
            raise ValueError(f"{uri}: a whole bucket is never emptied")

        def remove() -> int:
            found = [o.object_name or "" for o in self.client.list_objects(bucket_name=bucket, prefix=f"{prefix}/", recursive=True)]
            for key in found:
                self.client.remove_object(bucket_name=bucket, object_name=key)
            return len(found)

        return self._call(uri, remove)

    def presign(self, uri: str, *, hours: float = 1) -> str:
        bucket, key = split_uri(uri)
        return self.client.presigned_get_object(bucket_name=bucket, object_name=key, expires=timedelta(hours=hours))

    def _call(self, what: str, action: Callable[[], T]) -> T:
        try:
            return action()
        except S3Error as error:
            if error.code in ("NoSuchKey", "NoSuchBucket", "NoSuchObject"):
                raise NotFound(f"{what}: {error.code} on {self.endpoint}") from error
            if error.code in ("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId"):
                raise StorageUnavailable(f"{what}: {self.endpoint} refused the credentials ({error.code})") from error
            raise StorageUnavailable(f"{what}: {self.endpoint} answered {error.code}: {error.message}") from error
        except (urllib3.exceptions.HTTPError, MinioException, OSError) as error:
            raise StorageUnavailable(f"{what}: the S3 server at {self.endpoint} did not answer ({type(error).__name__})") from error


class Chunks:
    """What an iterator of bytes gives, as a file to read from."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self.chunks, self.rest = chunks, b""

    def read(self, size: int = -1) -> bytes:
        found = [self.rest]
        have = len(self.rest)
        while size < 0 or have < size:
            chunk = next(self.chunks, None)
            if chunk is None:
                break
            found.append(chunk)
            have += len(chunk)
        data = b"".join(found)
        size = have if size < 0 else size
        self.rest = data[size:]
        return data[:size]
