from tests.blobserver.objects.azurite import azurite as azurite
from tests.blobserver.objects.radosgw import radosgw as radosgw
