from tests.hostile.images import IMAGES
from tests.hostile.models import MODELS
from tests.hostile.records import RECORDS

HOSTILE = {**MODELS, **RECORDS, **IMAGES}
