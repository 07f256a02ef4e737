"""An index on the age of results; and what MariaDB and MySQL need.

These have no partial indexes: Django leaves the conditions out and makes whole ones, in which the ready rows would have
to be searched for among all others. Under the same names they get the columns of the condition, as equalities before
those that say the order. All texts become utf8mb4, compared exactly: ids and queues that differ in case are different.
"""

from django.db import migrations, models

from celery.migrations._operations import OnMysql

EXACT_TEXT = "ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE {exact}"
ORDERED_INDEXES = (
    "DROP INDEX celery_message_ready,"
    " ADD INDEX celery_message_ready (queue, owner, visible_at, dead_at, `rank`, id),"
    " DROP INDEX celery_message_owner,"
    " ADD INDEX celery_message_owner (owner, visible_at, dead_at, `rank`, id)"
)
FIRST_INDEXES = (
    "DROP INDEX celery_message_ready, ADD INDEX celery_message_ready (queue, `rank`, id),"
    " DROP INDEX celery_message_owner, ADD INDEX celery_message_owner (owner)"
)


class Migration(migrations.Migration):
    dependencies = [("celery", "0001_initial")]

    operations = [
        OnMysql(
            [
                f"ALTER TABLE celery_taskmeta {EXACT_TEXT}",
                f"ALTER TABLE celery_worker {EXACT_TEXT}",
                f"ALTER TABLE celery_message {EXACT_TEXT}, {ORDERED_INDEXES}",
            ],
            [f"ALTER TABLE celery_message {FIRST_INDEXES}"],
        ),
        migrations.AddIndex(
            model_name="taskmeta",
            index=models.Index(fields=["date_done"], name="celery_taskmeta_done"),
        ),
    ]
