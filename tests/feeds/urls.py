"""What the application adds, and what Celery brings."""

from django.urls import include, path

from tests.feeds import views

urlpatterns = [
    path("update/", views.update),
    path("update-urgently/", views.update_urgently),
    path("count/", views.count),
    path("celery/", include("celery.urls")),
]
