"""zstd for single blobs. The library is imported when the first codec is made."""

from ...errors import Corrupt

LEVEL_DEFAULT = 3


class Zstd:
    """A codec for `packing`, at one level (1, quick, to 22). Not for two threads at once."""

    def __init__(self, level: int = LEVEL_DEFAULT) -> None:
        import zstandard

        self._library = zstandard
        self._compressor = zstandard.ZstdCompressor(level=level)
        self._decompressor = zstandard.ZstdDecompressor()

    def compress(self, data: bytes) -> bytes:
        return self._compressor.compress(data)

    def decompress(self, data: bytes | memoryview, size: int) -> bytes:
        """Raises Corrupt: no zstd frame, more than one, or another size than `size`."""
        library = self._library
        try:
            claimed = library.frame_content_size(data)
            # The library believes a frame that claims a size and allocates it.
            if claimed not in (-1, size):
                raise Corrupt("unpack", "blob", f"it claims {claimed} bytes instead of {size}")
            return self._decompressor.decompress(data, max_output_size=size, allow_extra_data=False)
        except library.ZstdError as error:
            raise Corrupt("unpack", "blob", str(error)) from None
