"""Where configuration, data and caches lie, and which environment variables say so.

Pure functions over a mapping (`os.environ` in the programs, anything in tests): nothing here reads
the environment. `PK_` variables beat `CAMLI_` ones; an empty variable counts as unset.
platformdirs is of no use here: it reads the environment of the process.
"""

from collections.abc import Mapping
from pathlib import Path

from .errors import ConfigError

SERVER_CONFIG = "server.toml"
PERKEEP_SERVER_CONFIG = "server-config.json"
SERVER_CONFIGS = (SERVER_CONFIG, PERKEEP_SERVER_CONFIG)
CLIENT_CONFIG = "client-config.json"
SECRET_RING = "identity-secring.gpg"  # noqa: S105 - a file name

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def variable(environ: Mapping[str, str], *names: str) -> str:
    """Return the first of these variables that is set and not empty, else ""."""
    return next((environ[name] for name in names if environ.get(name)), "")


def switch(environ: Mapping[str, str], *names: str) -> bool:
    """Return the first of these variables that is set as a boolean; False if none is.

    Raises ConfigError for text that is no boolean.
    """
    for name in names:
        text = environ.get(name)
        if text:
            if text not in _TRUE | _FALSE:
                raise ConfigError("read variable", name, f"{text!r} is neither true nor false")
            return text in _TRUE
    return False


def wants_stream(environ: Mapping[str, str]) -> bool:
    """Whether `PK_STREAM` lets clients use the stream, which it does unless it says no."""
    return not environ.get("PK_STREAM") or switch(environ, "PK_STREAM")


def home(environ: Mapping[str, str]) -> Path:
    """Return the home directory. Raises ConfigError when HOME is not set."""
    if not environ.get("HOME"):
        raise ConfigError("find", "home directory", "HOME is not set")
    return Path(environ["HOME"])


def expand(environ: Mapping[str, str], path: str) -> Path:
    """Return `path` with a leading `~/` replaced by the home directory."""
    return home(environ) / path[2:] if path.startswith("~/") else Path(path)


def _xdg(environ: Mapping[str, str], name: str, fallback: str) -> Path:
    # The XDG rules: a relative directory counts as unset.
    text = environ.get(name, "")
    return Path(text) if text.startswith("/") else home(environ) / fallback


def chosen_config_dir(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration directory that the environment names, else None."""
    text = variable(environ, "PK_CONFIG_DIR", "CAMLI_CONFIG_DIR")
    return Path(text) if text else None


def own_config_dir(environ: Mapping[str, str]) -> Path:
    """Return the directory that new configuration files are written to; it may not exist yet."""
    return chosen_config_dir(environ) or _xdg(environ, "XDG_CONFIG_HOME", ".config") / "peatkeep"


def perkeep_config_dir(environ: Mapping[str, str]) -> Path | None:
    """Return Perkeep's configuration directory if it is there and none was chosen.

    It is read where our own has no such file, and never written.
    """
    if chosen_config_dir(environ):
        return None
    path = _xdg(environ, "XDG_CONFIG_HOME", ".config") / "perkeep"
    return path if path.is_dir() else None


def config_dirs(environ: Mapping[str, str]) -> list[Path]:
    """Return the directories to look for a configuration file in: ours, then Perkeep's."""
    perkeep = perkeep_config_dir(environ)
    return [own_config_dir(environ), *([perkeep] if perkeep else [])]


def config_dir(environ: Mapping[str, str]) -> Path:
    """Return the directory that configuration is read from: ours, else an existing Perkeep one."""
    own = own_config_dir(environ)
    return own if own.is_dir() else perkeep_config_dir(environ) or own


def config_file(environ: Mapping[str, str], name: str) -> Path:
    """Return the file `name` of the first configuration directory that has it, else ours."""
    found = (folder / name for folder in config_dirs(environ) if (folder / name).exists())
    return next(found, own_config_dir(environ) / name)


def client_config_file(environ: Mapping[str, str]) -> Path:
    """Return the client configuration to read; it may not exist."""
    return config_file(environ, CLIENT_CONFIG)


def server_config_file(environ: Mapping[str, str]) -> Path | None:
    """Return the server configuration to read: ours before Perkeep's, else None."""
    for folder in config_dirs(environ):
        for name in SERVER_CONFIGS:
            if (folder / name).exists():
                return folder / name
    return None


def secret_ring_file(environ: Mapping[str, str]) -> Path:
    """Return the secret keyring: the variable's, else that of the configuration directory."""
    text = variable(environ, "PK_SECRET_RING", "CAMLI_SECRET_RING")
    return Path(text) if text else config_file(environ, SECRET_RING)


def data_dir(environ: Mapping[str, str]) -> Path:
    """Return the directory that a new server keeps blobs and index in."""
    text = variable(environ, "PK_DATA_DIR", "CAMLI_VAR_DIR")
    return Path(text) if text else _xdg(environ, "XDG_DATA_HOME", ".local/share") / "peatkeep"


def cache_dir(environ: Mapping[str, str]) -> Path:
    """Return the directory of what can be thrown away."""
    text = variable(environ, "PK_CACHE_DIR", "PERKEEP_CACHE_DIR", "CAMLI_CACHE_DIR")
    return Path(text) if text else _xdg(environ, "XDG_CACHE_HOME", ".cache") / "peatkeep"
