"""The checksum of the rows of a checkpoint: CRC-32, as in zlib and PNG.

Intel's library computes it four times as fast as zlib; the number is the same. It comes with
``pip install hpcq[fast]``.
"""

import importlib.util

if importlib.util.find_spec("isal"):
    from isal.isal_zlib import crc32
else:
    from zlib import crc32

__all__ = ["crc32"]
