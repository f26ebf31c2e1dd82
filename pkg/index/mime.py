"""What kind of data these bytes are: ordered rules, fixed tables (pkg/index/README.md, "MIME")."""

import re
from typing import Final

FILE_HEAD_SIZE: Final = 1024
BLOB_HEAD_SIZE: Final = 1024 * 1024
"""Bytes to look at: of a file's content, and of a blob that is no schema blob."""

_BROWSER_HEAD_SIZE: Final = 512


# Offset, first bytes there, kind. The first match wins, so the order is part of the rule.
_MAGIC_TABLE: Final = """
0 474946383761 image/gif
0 474946383961 image/gif
0 ffd8ffe2 image/jpeg
0 ffd8ffe1 image/jpeg
0 ffd8ffe0 image/jpeg
0 ffd8ffdb image/jpeg
0 49492a0010000000435202 image/cr2
0 89504e470d0a1a0a image/png
0 492049 image/tiff
0 49492a00 image/tiff
0 4d4d002a image/tiff
0 4d4d002b image/tiff
0 38425053 image/vnd.adobe.photoshop
0 67696d702078636620 image/x-xcf
0 2d2d2d2d2d424547494e20504750205055424c4943204b455920424c4f434b2d2d2d text/x-openpgp-public-key
0 664c6143000000 audio/x-flac
0 494433 audio/mpeg
0 000001b7 video/mpeg
0 000000146674797071742020 video/quicktime
0 006e1ef0 application/vnd.ms-powerpoint
0 1a45dfa3 video/webm
0 464c5601 application/vnd.adobe.flash.video
0 1f8b08 application/x-gzip
0 377abcaf271c application/x-7z-compressed
0 425a68 application/x-bzip2
0 fd377a585a00 application/x-xz
0 504b03040a000200 application/epub+zip
0 d0cf11e0a1b11ae1 application/vnd.ms-word
0 504b03040a14000600 application/vnd.openxmlformats-officedocument.custom-properties+xml
0 504b0304 application/zip
0 25504446 application/pdf
0 7b727466 text/rtf1
0 424547494e3a56434152440d0a text/vcard
0 52657475726e2d506174683a20 message/rfc822
4 6d6f6f76 video/quicktime
4 6d646174 video/quicktime
8 69736f6d video/mp4
8 6d703431 video/mp4
8 6d703432 video/mp4
8 6d6d7034 video/mp4
8 336765 video/3gpp
8 336767 video/3gpp
8 336770 video/3gpp
8 336773 video/3gpp
8 336732 video/3gpp2
8 61766331 video/3gpp
0 4d546864 audio/midi
0 2e524d46000000 application/vnd.rn-realmedia
0 4d414320 audio/ape
0 4d502b audio/musepack
0 49491a0000004845415043434452 image/x-canon-crw
0 49492a00100000004352 image/x-canon-cr2
0 4d4d4f52 image/x-olympus-orf
0 4949524f image/x-olympus-orf
0 49495253 image/x-olympus-orf
12 444a564d image/vnd.djvu
12 444a5655 image/vnd.djvu
12 444a5649 image/vnd.djvu
12 5448554d image/vnd.djvu
8 57415645 audio/x-wav
8 41564920 video/x-msvideo
0 4f676753 application/ogg
8 41494646 audio/x-aiff
8 41494643 audio/x-aiff
8 38535658 audio/x-aiff
0 0001000000 application/x-font-ttf
0 64383a616e6e6f756e6365 application/x-bittorrent
"""


def _magic(table: str) -> tuple[re.Pattern[bytes], tuple[str, ...]]:
    """The table as one expression, its rows as groups in order, and the kinds by group."""
    groups, mimes = [], []
    for line in table.strip().splitlines():
        offset, digits, mime = line.split()
        # One byte more than the prefix: a file that is nothing but its magic is not meant.
        prefix = re.escape(bytes.fromhex(digits)).replace(b"\0", rb"\x00")
        groups.append(rb"(.{%d}%b.)" % (int(offset), prefix))
        mimes.append(mime)
    return re.compile(b"|".join(groups), re.DOTALL), tuple(mimes)


_MAGIC, _MAGIC_MIMES = _magic(_MAGIC_TABLE)

_BY_EXTENSION: Final = {
    ".ai": "application/postscript",
    ".apk": "application/vnd.android.package-archive",
    ".apng": "image/apng",
    ".avif": "image/avif",
    ".bin": "application/octet-stream",
    ".bmp": "image/bmp",
    ".com": "application/octet-stream",
    ".css": "text/css",
    ".csv": "text/csv",
    ".doc": "application/msword",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".ehtml": "text/html",
    ".eml": "message/rfc822",
    ".eps": "application/postscript",
    ".exe": "application/octet-stream",
    ".flac": "audio/flac",
    ".gif": "image/gif",
    ".gz": "application/gzip",
    ".htm": "text/html",
    ".html": "text/html",
    ".ico": "image/vnd.microsoft.icon",
    ".ics": "text/calendar",
    ".jfif": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".json": "application/json",
    ".m4a": "audio/mp4",
    ".mjs": "text/javascript",
    ".mp3": "audio/mpeg",
    ".mp4": "video/mp4",
    ".oga": "audio/ogg",
    ".ogg": "audio/ogg",
    ".ogv": "video/ogg",
    ".opus": "audio/ogg",
    ".pdf": "application/pdf",
    ".pjp": "image/jpeg",
    ".pjpeg": "image/jpeg",
    ".png": "image/png",
    ".ppt": "application/vnd.ms-powerpoint",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".ps": "application/postscript",
    ".rdf": "application/rdf+xml",
    ".rtf": "application/rtf",
    ".shtml": "text/html",
    ".svg": "image/svg+xml",
    ".text": "text/plain",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".txt": "text/plain",
    ".vtt": "text/vtt",
    ".wasm": "application/wasm",
    ".wav": "audio/wav",
    ".webm": "audio/webm",
    ".webp": "image/webp",
    ".xbl": "text/xml",
    ".xbm": "image/x-xbitmap",
    ".xht": "application/xhtml+xml",
    ".xhtml": "application/xhtml+xml",
    ".xls": "application/vnd.ms-excel",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".xml": "text/xml",
    ".xsl": "text/xml",
    ".zip": "application/zip",
}

_WHITE_SPACE: Final = b"\t\n\x0c\r "

# Markup that browsers take for HTML: after white space, any case, and then a blank or `>`.
_HTML_STARTS: Final = (
    *(b"<!doctype html", b"<html", b"<head", b"<script", b"<iframe", b"<h1", b"<div", b"<font"),
    *(b"<table", b"<a", b"<style", b"<title", b"<b", b"<body", b"<br", b"<p", b"<!--"),
)


def _starts(table: str) -> tuple[re.Pattern[bytes], tuple[str, ...]]:
    """Rows of an expression in bytes and a kind, as `_magic` makes them."""
    rows = [line.rsplit(maxsplit=1) for line in table.strip().splitlines()]
    joined = "|".join(f"({form})" for form, _ in rows)
    return re.compile(joined.encode(), re.DOTALL), tuple(mime for _, mime in rows)


# A byte order mark is none without two bytes behind it. Film stands between the two tables.
_BEFORE_FILM, _MIMES_BEFORE_FILM = _starts(
    r"""
%PDF- application/pdf
%!PS-Adobe- application/postscript
\xfe\xff.. text/plain;charset=utf-16be
\xff\xfe.. text/plain;charset=utf-16le
\x00\x00[\x01\x02]\x00 image/x-icon
BM image/bmp
GIF8[79]a image/gif
RIFF.{4}WEBPVP image/webp
\x89PNG\r\n\x1a\n image/png
\xff\xd8\xff image/jpeg
FORM.{4}AIFF audio/aiff
ID3 audio/mpeg
OggS\x00 application/ogg
MThd\x00\x00\x00\x06 audio/midi
RIFF.{4}AVI[ ] video/avi
RIFF.{4}WAVE audio/wave
"""
)
_AFTER_FILM, _MIMES_AFTER_FILM = _starts(
    r"""
\x1a\x45\xdf\xa3 video/webm
.{34}LP application/vnd.ms-fontobject
\x00\x01\x00\x00 font/ttf
OTTO font/otf
ttcf font/collection
wOFF font/woff
wOF2 font/woff2
\x1f\x8b\x08 application/x-gzip
PK\x03\x04 application/zip
Rar!\x1a\x07\x01?\x00 application/x-rar-compressed
\x00asm application/wasm
"""
)


def sniff(head: bytes, file_name: bytes = b"") -> str:
    """The MIME type, without parameters except a UTF-16 charset; "" when unknown.

    head: the first FILE_HEAD_SIZE bytes of a file, or BLOB_HEAD_SIZE of a plain blob.
    file_name: its extension decides when the content says nothing.
    """
    return _by_content(head) or _by_extension(file_name)


def _by_content(head: bytes) -> str:
    match = _MAGIC.match(head)
    if match is not None and match.lastindex is not None:
        return _MAGIC_MIMES[match.lastindex - 1]
    if _is_heic(head):
        return "image/heic"
    if _is_svg(head):
        return "image/svg+xml"
    return _as_browsers_do(head[:_BROWSER_HEAD_SIZE])


def _by_extension(file_name: bytes) -> str:
    dot = file_name.rfind(b".")
    if dot < 0:
        return ""
    return _BY_EXTENSION.get(file_name[dot:].decode("latin-1").lower(), "")


def _is_heic(head: bytes) -> bool:
    if head[4:12] != b"ftypheic":
        return False
    handler = head.find(b"hdlr", int.from_bytes(head[:4]))
    return handler >= 0 and head[handler + 12 : handler + 16] == b"pict"


def _is_svg(head: bytes) -> bool:
    text = head.lstrip(_WHITE_SPACE)
    return text.startswith(b"<svg") or (text.startswith(b"<?xml") and b"<svg" in text)


def _as_browsers_do(head: bytes) -> str:
    """The WHATWG rules; text in UTF-8 and unknown binary data count as unknown."""
    text = head.lstrip(_WHITE_SPACE)
    if text.startswith(b"<"):
        if text.startswith(b"<?xml"):
            return "text/xml"
        lower = text[:16].lower()
        for start in _HTML_STARTS:
            if lower.startswith(start) and text[len(start) : len(start) + 1] in (b" ", b">"):
                return "text/html"
    match = _BEFORE_FILM.match(head)
    if match is not None and match.lastindex is not None:
        return _MIMES_BEFORE_FILM[match.lastindex - 1].replace(";", "; ")
    if _has_mp4_brand(head):
        return "video/mp4"
    match = _AFTER_FILM.match(head)
    if match is not None and match.lastindex is not None:
        return _MIMES_AFTER_FILM[match.lastindex - 1]
    return ""


def _has_mp4_brand(head: bytes) -> bool:
    size = int.from_bytes(head[:4])
    if len(head) < max(12, size) or size % 4 or head[4:8] != b"ftyp":
        return False
    # At 12 stands the version of the major brand, which is no brand.
    return any(head.startswith(b"mp4", at) for at in range(8, size, 4) if at != 12)
