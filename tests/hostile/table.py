"""All hostile files by name, and honest ones from the same builders."""

from tests.hostile.folders import FOLDERS, HONEST_FOLDERS
from tests.hostile.images import HONEST_IMAGES, IMAGES
from tests.hostile.models import HONEST_MODELS, MODELS
from tests.hostile.own import HONEST_OWN, OWN
from tests.hostile.records import HONEST_RECORDS, RECORDS
from tests.hostile.weights import HONEST_WEIGHTS, WEIGHTS_AND_ARCHIVES

HOSTILE = {**MODELS, **WEIGHTS_AND_ARCHIVES, **RECORDS, **FOLDERS, **IMAGES, **OWN}
HONEST = {**HONEST_MODELS, **HONEST_WEIGHTS, **HONEST_RECORDS, **HONEST_FOLDERS, **HONEST_IMAGES, **HONEST_OWN}
