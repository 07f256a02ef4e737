"""The pages of Django's admin: overview, results, messages, workers and periodic tasks.

A site of your own registers them like any others: ``site.register(TaskMeta, ResultAdmin)``.
"""

from django.apps import apps

if apps.is_installed("django.contrib.admin"):
    from django.contrib import admin

    from celery.admin.messages import MessageAdmin
    from celery.admin.overview import OverviewAdmin
    from celery.admin.periodic import PeriodicTaskAdmin
    from celery.admin.results import ResultAdmin
    from celery.admin.workers import WorkerAdmin
    from celery.models import Message, Overview, PeriodicTaskMeta, TaskMeta, Worker

    admin.site.register(Message, MessageAdmin)
    admin.site.register(Overview, OverviewAdmin)
    admin.site.register(PeriodicTaskMeta, PeriodicTaskAdmin)
    admin.site.register(TaskMeta, ResultAdmin)
    admin.site.register(Worker, WorkerAdmin)

    __all__ = ["MessageAdmin", "OverviewAdmin", "PeriodicTaskAdmin", "ResultAdmin", "WorkerAdmin"]
