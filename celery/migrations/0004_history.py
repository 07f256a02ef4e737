"""The history that the admin shows, and the indexes by which it lists results.

MariaDB and MySQL have no partial indexes: there Django makes celery_taskmeta_odd a whole one.
"""

from django.db import migrations, models

from celery.migrations._operations import OnMysql

EXACT_TEXT = "ENGINE=InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE {exact}"


class Migration(migrations.Migration):
    dependencies = [
        ("celery", "0003_periodic"),
    ]

    operations = [
        migrations.CreateModel(
            name="Overview",
            fields=[],
            options={
                "verbose_name": "overview",
                "verbose_name_plural": "overview",
                "proxy": True,
                "default_permissions": ("view",),
                "indexes": [],
                "constraints": [],
            },
            bases=("celery.worker",),
        ),
        migrations.CreateModel(
            name="QueueDepth",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(verbose_name="minute")),
                ("queue", models.CharField(max_length=255, verbose_name="queue")),
                ("depth", models.BigIntegerField(verbose_name="messages that are ready")),
                ("oldest", models.FloatField(blank=True, null=True, verbose_name="age of the oldest in seconds")),
            ],
            options={
                "verbose_name": "queue depth",
                "db_table": "celery_queuedepth",
            },
        ),
        migrations.CreateModel(
            name="Throughput",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("at", models.DateTimeField(verbose_name="end of the interval")),
                ("worker", models.CharField(max_length=255, verbose_name="worker")),
                ("done", models.PositiveBigIntegerField(default=0, verbose_name="done")),
                ("failed", models.PositiveBigIntegerField(default=0, verbose_name="failed")),
                ("retried", models.PositiveBigIntegerField(default=0, verbose_name="retried")),
                ("runtime", models.FloatField(default=0.0, verbose_name="runtime in seconds, summed")),
            ],
            options={
                "verbose_name": "throughput",
                "verbose_name_plural": "throughput",
                "db_table": "celery_throughput",
            },
        ),
        OnMysql([f"ALTER TABLE celery_throughput {EXACT_TEXT}", f"ALTER TABLE celery_queuedepth {EXACT_TEXT}"]),
        migrations.AddIndex(
            model_name="taskmeta",
            index=models.Index(fields=["name", "date_done"], name="celery_taskmeta_name"),
        ),
        migrations.AddIndex(
            model_name="taskmeta",
            index=models.Index(
                condition=models.Q(("status", "DONE"), _negated=True),
                fields=["status", "date_done"],
                name="celery_taskmeta_odd",
            ),
        ),
        migrations.AddConstraint(
            model_name="queuedepth",
            constraint=models.UniqueConstraint(fields=("at", "queue"), name="celery_queuedepth_minute"),
        ),
        migrations.AddIndex(
            model_name="throughput",
            index=models.Index(fields=["at"], name="celery_throughput_at"),
        ),
    ]
