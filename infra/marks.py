"""The mark inside a synthetic image's file: IPTC's digital source type, its sample's id, and how it was made, as XMP.

Marks can be stripped by any tool that rewrites a file; exports carry them in a sidecar as well.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html import unescape
from xml.sax.saxutils import quoteattr

from longtail.samples import DIGITAL_SOURCE_TYPES, Provenance

NAMESPACE = "https://longtail.invalid/ns/1.0/"
IPTC = "http://cv.iptc.org/newscodes/digitalsourcetype/"
MADE = frozenset(IPTC + name for name in (
    "trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic", "algorithmicMedia", "virtualRecording",
))  # fmt: skip
"""Source types that say of any file, whoever wrote it, that a camera did not take all of it."""
SOURCE_TYPE = re.compile(rb"DigitalSourceType(?:\s*=\s*[\"']|\s+rdf:resource\s*=\s*[\"']|\s*>\s*)([^\"'<\s]+)")
SAMPLE = re.compile(rb"longtail:Sample=\"([^\"]*)\"")
PROVENANCE = re.compile(rb"longtail:Provenance=\"([^\"]*)\"")


@dataclass(frozen=True)
class Mark:
    """What a file says of its origin. `sample` and `provenance` are there where we wrote it."""

    source_type: str
    sample: str | None = None
    provenance: Provenance | None = None

    @property
    def synthetic(self) -> bool:
        return self.sample is not None or self.source_type in MADE


def xmp(provenance: Provenance, sample_id: str) -> str:
    """The XMP packet of a synthetic image."""
    record = json.dumps(provenance.to_json(), separators=(",", ":"), ensure_ascii=False)
    return (
        '<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/">'
        '<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
        f'xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/" xmlns:longtail="{NAMESPACE}" '
        'xmlns:dc="http://purl.org/dc/elements/1.1/" '
        f'Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPES[provenance.mode]}" '
        f"dc:identifier={attribute('longtail:' + sample_id)} "
        f"longtail:Sample={attribute(sample_id)} longtail:Provenance={attribute(record)}/>"
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    )


def attribute(value: str) -> str:
    return quoteattr(value, {'"': "&quot;"})


def read_mark(data: bytes) -> Mark | None:
    """The mark in a file's bytes (its beginning is enough for JPEG and PNG), None where it has none."""
    found = SOURCE_TYPE.search(data)
    if found is None:
        return None
    sample, record = SAMPLE.search(data), PROVENANCE.search(data)
    return Mark(found[1].decode(errors="replace"), text(sample) if sample else None, provenance_of(text(record)) if record else None)


def text(found: re.Match[bytes]) -> str:
    return unescape(found[1].decode(errors="replace"))


def provenance_of(record: str) -> Provenance | None:
    try:
        return Provenance.from_json(json.loads(record))
    except (ValueError, KeyError, TypeError, IndexError):
        return None
