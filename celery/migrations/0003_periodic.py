from django.db import migrations, models

from celery.migrations._operations import OnMysql


class Migration(migrations.Migration):
    dependencies = [("celery", "0002_indexes_without_conditions")]

    operations = [
        migrations.CreateModel(
            name="PeriodicTaskMeta",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.CharField(max_length=255, unique=True, verbose_name="task name")),
                ("last_run_at", models.DateTimeField(blank=True, null=True, verbose_name="last due moment")),
                ("total_run_count", models.PositiveBigIntegerField(default=0, verbose_name="due moments so far")),
                (
                    "last_task_id",
                    models.CharField(
                        blank=True, default="", max_length=255, verbose_name="task id of the last message"
                    ),
                ),
            ],
            options={"verbose_name": "periodic task", "db_table": "celery_periodictaskmeta"},
        ),
        # Names that differ in case are two tasks.
        OnMysql(
            ["ALTER TABLE celery_periodictaskmeta ENGINE = InnoDB, CONVERT TO CHARACTER SET utf8mb4 COLLATE {exact}"]
        ),
    ]
