"""The stream: both ends of its protocol as bytes and events, without IO (../STREAM.md)."""

from . import events as events
from .client import CLIENT_HELLO as CLIENT_HELLO
from .client import ClientMachine as ClientMachine
from .client import Pending as Pending
from .connection import Connection as Connection
from .frames import BULK as BULK
from .frames import FEATURE_BLOBS as FEATURE_BLOBS
from .frames import FEATURE_CHANGES as FEATURE_CHANGES
from .frames import FEATURE_ZSTD as FEATURE_ZSTD
from .frames import INTERACTIVE as INTERACTIVE
from .frames import NORMAL as NORMAL
from .frames import TOPIC_BLOBS as TOPIC_BLOBS
from .frames import TOPIC_CHANGES as TOPIC_CHANGES
from .frames import Code as Code
from .frames import Hello as Hello
from .frames import Item as Item
from .frames import Place as Place
from .frames import ProtocolViolation as ProtocolViolation
from .frames import Violation as Violation
from .packing import Codec as Codec
from .packing import Packed as Packed
from .packing import pack as pack
from .packing import unpack as unpack
from .server import Refusal as Refusal
from .server import ServerMachine as ServerMachine
from .zstd import Zstd as Zstd
