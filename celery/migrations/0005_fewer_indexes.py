"""Two indexes less on PostgreSQL, which no statement uses.

Django makes a second index for LIKE beside that of each unique text. Every result was written into it, at a random
place; nothing here asks by LIKE for an id. To drop an index is a matter of a moment, however large it is.
"""

from django.db import migrations

from celery.migrations._operations import OnPostgresql

#: By the rule of Django's schema editor: table, column, a digest of both, and what it is for.
NEEDLESS = {
    "celery_taskmeta_task_id_9558b198_like": "celery_taskmeta (task_id varchar_pattern_ops)",
    "celery_worker_owner_94238f13_like": "celery_worker (owner varchar_pattern_ops)",
}


class Migration(migrations.Migration):
    dependencies = [
        ("celery", "0004_history"),
    ]

    operations = [
        OnPostgresql(
            forwards=[f"DROP INDEX IF EXISTS {name}" for name in NEEDLESS],
            backwards=[f"CREATE INDEX IF NOT EXISTS {name} ON {place}" for name, place in NEEDLESS.items()],
        ),
    ]
