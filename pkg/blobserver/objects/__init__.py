"""Buckets as storage: S3, Google Cloud Storage and Azure."""

from .bucket import Bucket as Bucket
from .bucket import Limits as Limits
from .services import S3 as S3
from .services import Azure as Azure
from .services import GoogleCloudStorage as GoogleCloudStorage
from .store import Objects as Objects
