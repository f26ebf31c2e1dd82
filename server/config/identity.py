"""The owner's key that a configuration names: which one it is, in full."""

from pathlib import Path

from ...errors import ConfigError, Invalid, NotFound, StoreError
from .high_keys import refuse


def find_key_id(ring: str, identity: str) -> str:
    """Return the 16 digits of the key that `identity` means in the secret keyring file `ring`.

    identity: 8, 16 or 40 upper-case hexadecimal digits; a key id is the end of a fingerprint.
    Raises ConfigError when the file can't be used or has no such key.
    """
    from ...schema.keyring import find_key, read_ring

    subject = f"secret keyring {ring} (identitySecretRing)"
    try:
        keys = read_ring(Path(ring).read_bytes())
    except OSError as error:
        raise ConfigError("read", subject, (error.strerror or str(error)).lower()) from None
    except StoreError as error:
        raise ConfigError("read", subject, error.reason) from None
    try:
        return find_key(keys, identity).key_id
    except NotFound:
        refuse(f'"{identity}" identity not found in secret ring {ring}')
    except Invalid as error:
        refuse(f"identity {identity}: {error.reason}")
