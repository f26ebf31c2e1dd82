"""The services, by what a configuration says of each."""

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from obstore.store import AzureStore, GCSStore, S3Store

from ...errors import ConfigError
from ...sorted.options import Options
from ..storage import Storage
from .bucket import Bucket, Limits
from .google import token_source
from .store import Objects

if TYPE_CHECKING:
    from obstore.store import (
        AzureConfig,
        ClientConfig,
        GCSConfig,
        GCSCredential,
        RetryConfig,
        S3Config,
    )

MAX_REQUESTS: Final = 256
_AMAZON: Final = ".amazonaws.com"

Resolve = Callable[[str], Storage]


class S3(Objects):
    """Any service that speaks S3."""

    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Resolve) -> Self:
        """Arguments: pkg/blobserver/objects/README.md. Raises ConfigError, and as `Bucket.check`
        unless `skipStartupCheck`.
        """
        owner = "storage-s3"
        with Options(owner, args) as options:
            bucket, prefix = _split(owner, "bucket", options.string("bucket"))
            key = options.string("aws_access_key")
            secret = options.string("aws_secret_access_key")
            region = options.string("aws_region", "us-east-1")
            endpoint = _endpoint(owner, options)
            path_style = options.boolean("pathStyle", bool(endpoint) or "." in bucket)
            limits, is_checked = _common(owner, options)
        if endpoint and not path_style:
            scheme, mark, host = endpoint.partition("://")
            endpoint = f"{scheme}{mark}{bucket}.{host}"
        config: S3Config = {
            "access_key_id": key,
            "secret_access_key": secret,
            "region": region,
            "virtual_hosted_style_request": not path_style,
        }
        if endpoint:
            config["endpoint"] = endpoint
        client, retry = _client(limits, endpoint), _retry(limits)
        store = S3Store(bucket, config=config, client_options=client, retry_config=retry)
        return cls._opened(Bucket(store, f"s3://{bucket}", prefix, limits), is_checked)


class GoogleCloudStorage(Objects):
    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Resolve) -> Self:
        """Arguments: pkg/blobserver/objects/README.md. Raises as `S3.from_config`."""
        owner = "storage-googlecloudstorage"
        with Options(owner, args) as options:
            bucket, prefix = _split(owner, "bucket", options.string("bucket"))
            auth = options.table("auth")
            endpoint = _endpoint(owner, options)
            limits, is_checked = _common(owner, options)
        with Options(f"{owner}, auth", auth) as options:
            client = options.string("client_id")
            client_secret = options.string("client_secret", "")
            refresh_token = options.string("refresh_token", "")
            account = options.string("service_account", "")
        provider: Callable[[], GCSCredential] | None = None
        if client == "none":
            provider = _no_token
        elif client != "auto" and not account:
            if not refresh_token:
                raise ConfigError("configure", f"{owner}, auth.refresh_token", "is missing")
            provider = token_source(client, client_secret, refresh_token)
        config: GCSConfig = {}
        if endpoint:
            config["base_url"] = endpoint
        if account:
            config["service_account_key"] = account
        store = GCSStore(
            bucket,
            config=config,
            client_options=_client(limits, endpoint),
            retry_config=_retry(limits),
            credential_provider=provider,
        )
        return cls._opened(Bucket(store, f"gs://{bucket}", prefix, limits, False), is_checked)


class Azure(Objects):
    @classmethod
    def from_config(cls, args: Mapping[str, object], _: Resolve) -> Self:
        """Arguments: pkg/blobserver/objects/README.md. Raises as `S3.from_config`."""
        owner = "storage-azure"
        with Options(owner, args) as options:
            container, prefix = _split(owner, "container", options.string("container"))
            account = options.string("azure_account")
            key = options.string("azure_access_key")
            endpoint = _endpoint(owner, options)
            limits, is_checked = _common(owner, options)
        config: AzureConfig = {"account_name": account, "account_key": key}
        if endpoint:
            config["endpoint"] = endpoint
        client, retry = _client(limits, endpoint), _retry(limits)
        store = AzureStore(container, config=config, client_options=client, retry_config=retry)
        bucket = Bucket(store, f"azure://{account}/{container}", prefix, limits, False)
        return cls._opened(bucket, is_checked)


def _no_token() -> "GCSCredential":
    # obstore's own way, skip_signature, asks the machine's account before it stores.
    return {"token": "none", "expires_at": None}


def _split(owner: str, name: str, text: str) -> tuple[str, str]:
    """The name of a bucket and its prefix, out of `name/some/folder`."""
    bucket, _, folder = text.partition("/")
    folder = folder.strip("/")
    if not bucket or any(part in ("", ".", "..") for part in folder.split("/") if folder):
        raise ConfigError("configure", f"{owner}, {name}", 'must be "name" or "name/folder"')
    return bucket, f"{folder}/" if folder else ""


def _endpoint(owner: str, options: Options) -> str:
    """The URL of the service, or "" for its own; plain HTTP on this machine only."""
    host = options.string("hostname", "")
    url = options.string("endpoint", "")
    if host and url:
        raise ConfigError("configure", f"{owner}, endpoint", "not together with hostname")
    if host:
        if "/" in host:
            raise ConfigError("configure", f"{owner}, hostname", "must be a host, without a scheme")
        if host == f"s3{_AMAZON}":
            return ""
        return (
            f"http://{host}" if _is_loopback(urlsplit(f"//{host}").hostname) else f"https://{host}"
        )
    if not url:
        return ""
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.username:
        raise ConfigError("configure", f"{owner}, endpoint", "must be a URL: https://host")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigError("configure", f"{owner}, endpoint", "http:// is for this machine only")
    return url.rstrip("/")


def _is_loopback(host: str | None) -> bool:
    return host is not None and (host in ("localhost", "::1") or host.startswith("127."))


def _common(owner: str, options: Options) -> tuple[Limits, bool]:
    """What all services have: limits, and whether the bucket is looked at when it is opened."""
    options.integer("cacheSize", 0)
    usual = Limits()
    limits = Limits(
        options.integer("maxRequests", usual.requests_at_once),
        options.integer("retries", usual.retries),
        usual.retry_s,
        options.integer("timeoutSeconds", int(usual.timeout_s)),
    )
    if not 1 <= limits.requests_at_once <= MAX_REQUESTS:
        reason = f"must be from 1 to {MAX_REQUESTS}"
        raise ConfigError("configure", f"{owner}, maxRequests", reason)
    if limits.retries < 0 or limits.timeout_s < 1:
        raise ConfigError("configure", f"{owner}, retries or timeoutSeconds", "is too small")
    return limits, not options.boolean("skipStartupCheck", False)


def _client(limits: Limits, endpoint: str) -> "ClientConfig":
    return {
        "allow_http": endpoint.startswith("http://"),
        "timeout": timedelta(seconds=limits.timeout_s),
    }


def _retry(limits: Limits) -> "RetryConfig":
    return {
        "max_retries": limits.retries,
        "retry_timeout": timedelta(seconds=limits.retry_s),
        "backoff": {"max_backoff": timedelta(seconds=10)},
    }
