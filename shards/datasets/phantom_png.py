"""PNG files that cost as much to decode as NIH's own."""

import struct
import zlib

import numpy as np

IDAT_BYTES = 8192
"""NIH's files hold about 55 chunks of this size."""


def encode_grey_png(pixels: np.ndarray) -> bytes:
    """Encode an image the way NIH's files are encoded.

    The rows alternate between PNG's Average and Paeth filters, because NIH's 1024-pixel files hold about as many of
    each and the filters take most of their decoding time (counted from 200 of them). Pillow itself would write
    Paeth rows only. Film grain leaves nothing for LZ77 to find, so the rows are only Huffman coded.

    Args:
        pixels: (H, W) uint8.

    Returns:
        The bytes of an 8-bit grey PNG file.
    """
    height, width = pixels.shape
    bordered = np.zeros((height + 1, width + 1), np.int16)
    bordered[1:, 1:] = pixels
    here, left, up, up_left = bordered[1:, 1:], bordered[1:, :-1], bordered[:-1, 1:], bordered[:-1, :-1]
    rows = np.empty((height, width + 1), np.uint8)
    rows[0::2, 0], rows[1::2, 0] = 3, 4
    rows[0::2, 1:] = here[0::2] - (left[0::2] + up[0::2]) // 2
    rows[1::2, 1:] = here[1::2] - paeth(left[1::2], up[1::2], up_left[1::2])
    compressor = zlib.compressobj(level=1, strategy=zlib.Z_HUFFMAN_ONLY)
    data = compressor.compress(rows.tobytes()) + compressor.flush()
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", header),
            *(chunk(b"IDAT", data[start : start + IDAT_BYTES]) for start in range(0, len(data), IDAT_BYTES)),
            chunk(b"IEND", b""),
        )
    )


def paeth(left: np.ndarray, up: np.ndarray, up_left: np.ndarray) -> np.ndarray:
    """Predict each pixel by the neighbour nearest to left + up - up_left (PNG specification, section 9.4)."""
    to_left, to_up = np.abs(up - up_left), np.abs(left - up_left)
    to_up_left = np.abs(left + up - 2 * up_left)
    nearer = np.where(to_up <= to_up_left, up, up_left)
    return np.where((to_left <= to_up) & (to_left <= to_up_left), left, nearer)


def chunk(kind: bytes, data: bytes) -> bytes:
    """Frame one PNG chunk: length, kind, data, CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
