"""Where a message stands, as conditions on its row: exactly one of the five holds. See `celery.models.Message`."""

from typing import Final

from django.db.models import Q

#: No worker holds it, neither to run nor to relay it.
FREE: Final = Q(owner__isnull=True)

READY: Final = Q(owner__isnull=True, visible_at__isnull=True, dead_at__isnull=True)
SCHEDULED: Final = Q(owner__isnull=True, visible_at__isnull=False, dead_at__isnull=True)
#: A row with both an owner and a moment is being relayed.
IN_RELAY: Final = Q(owner__isnull=False, visible_at__isnull=False, dead_at__isnull=True)
TAKEN: Final = Q(owner__isnull=False, visible_at__isnull=True, dead_at__isnull=True)
DEAD: Final = Q(dead_at__isnull=False)
