"""A weight file of which only what is asked for is read."""

import mmap
import zlib
from bisect import bisect
from io import BufferedReader

import numpy as np

MAX_PICKLE = 1 << 26  # bytes; the names, types and shapes of a large network take 0.2 MB
BLOCK = 1 << 18


class Content:
    """The bytes of a file, in their places, of which only those that were read take memory.

    Arrays over `view` say where numbers lie; they hold zeros until `fill` has read them.
    """

    def __init__(self, file: BufferedReader, size: int):
        self.file = file
        self.size = size
        self.view = memoryview(mmap.mmap(-1, size))  # takes memory where something is written to it
        self._start = np.frombuffer(self.view, np.uint8).__array_interface__["data"][0]
        # (start, end, checksum) of parts of which all is read where any of it is, in order
        self.checked: list[tuple[int, int, int]] = []
        self._filled: set[int] = set()

    def read(self, start: int, end: int) -> memoryview:
        """Reads some bytes into their place. Raises ValueError where the file ends before."""
        self.file.seek(start)
        if self.file.readinto(self.view[start:end]) != end - start:
            raise ValueError("it breaks off")
        return self.view[start:end]

    def count(self, mark: bytes) -> int:
        """Returns how often some bytes occur, block by block."""
        self.file.seek(0)
        return sum(block.count(mark) for block in iter(lambda: self.file.read(BLOCK), b""))

    def fill(self, array: np.ndarray) -> None:
        """Reads the numbers of an array over `view`. Raises ValueError for a wrong checksum."""
        low, high = np.lib.array_utils.byte_bounds(array)
        start = low - self._start
        end = high - self._start
        if not self.checked:
            self.read(start, end)
            return
        number = bisect(self.checked, (start, self.size, 0)) - 1
        if number not in self._filled:
            self._filled.add(number)
            first, last, checksum = self.checked[number]
            if zlib.crc32(self.read(first, last)) != checksum:
                raise ValueError("the checksum of an array is wrong")
