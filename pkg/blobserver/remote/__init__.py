"""The HTTP protocol's client side: another server as a Storage."""

from .discovery import Discovery as Discovery
from .discovery import discover as discover
from .line import FREE_LINE as FREE_LINE
from .line import Line as Line
from .storage import Remote as Remote
from .storage import Uploaded as Uploaded
from .transport import Response as Response
from .transport import Transport as Transport
