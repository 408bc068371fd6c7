"""The one root error and its kinds: each carries a stable code that a caller may match on."""

from __future__ import annotations


class LongtailError(Exception):
    """Something the caller can act on. The message says what was expected, what was found and what to do."""

    code = "error"


class InvalidRequest(LongtailError):
    """The request cannot be served as it is written."""

    code = "invalid-request"


class NotFound(LongtailError):
    """The thing named does not exist for this tenant."""

    code = "not-found"


class Conflict(LongtailError):
    """The thing exists, but its state forbids what was asked."""

    code = "conflict"


class TooFewInstances(LongtailError):
    """The class has too few real instances for the novelty that was asked."""

    code = "too-few-instances"


class BrokenDataset(LongtailError):
    """A dataset at its source has problems; each is listed with its file and sample."""

    code = "broken-dataset"

    def __init__(self, message: str, problems: list[str] | None = None) -> None:
        super().__init__(message)
        self.problems = problems or []


class BrokenImage(LongtailError):
    """An image cannot be decoded, or is larger than is allowed."""

    code = "broken-image"


class SourceChanged(LongtailError):
    """A source image has vanished or changed since it was registered."""

    code = "source-changed"


class StorageUnavailable(LongtailError):
    """The S3 server did not answer, or refused the credentials."""

    code = "storage-unavailable"


class NotReady(LongtailError):
    """A part of the stack is not up, or no generator is being served yet; trying again later may work."""

    code = "not-ready"


class Cancelled(LongtailError):
    """The job was cancelled by its owner."""

    code = "cancelled"
