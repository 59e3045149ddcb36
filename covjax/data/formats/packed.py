"""What packed files unpack to, counted before it takes memory or disk."""

import io
import zlib

from covjax.errors import InputError

CT = 32  # times smaller is what packing makes of CT at most; what promises more is counted first
LEAST = 2**28  # bytes that any deflated DICOM file may hold
CHUNK = 2**20


class DeflatedFile(io.BufferedReader):
    """A DICOM file. pydicom reads all that is left of it at once only to inflate that."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Reads; raises InputError where what is left would take far more memory than the file."""
        content = super().read(size)
        if size == -1:
            most = max(LEAST, CT * len(content))
            if _inflated(content, most) > most:
                raise InputError(
                    f"{self.name}: {len(content):,} bytes unpack to more than {most:,}, which "
                    "no CT does; replace or remove it"
                )
        return content


def _inflated(content: bytes, most: int) -> int:
    """Returns how many bytes come out of a raw deflate stream; counting ends above `most`."""
    inflate = zlib.decompressobj(-zlib.MAX_WBITS)
    count = len(inflate.decompress(content, CHUNK))
    while inflate.unconsumed_tail and count <= most:
        count += len(inflate.decompress(inflate.unconsumed_tail, CHUNK))
    return count


def readable(file: io.BufferedIOBase, needed: int) -> int:
    """Returns how many of the bytes that are needed a file gives."""
    count = 0
    while count < needed and (got := len(file.read(min(CHUNK, needed - count)))):
        count += got
    return count
