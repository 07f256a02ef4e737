"""The addresses of the classic interface: ``path("celery/", include("celery.urls"))``.

``<task_id>/done/`` and ``<task_id>/status/``; see `celery.views`, also for who may ask.
"""

from django.urls import path

from celery import views

urlpatterns = [
    path("<path:task_id>/done/", views.is_task_done, name="celery-is_task_done"),
    path("<path:task_id>/status/", views.task_status, name="celery-task_status"),
]
