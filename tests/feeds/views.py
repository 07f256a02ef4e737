"""Views that start tasks and hand out their ids."""

from django.http import HttpResponse

from celery.task import apply_async, delay_task
from tests.feeds.tasks import UpdateFeedTask


def update(request):
    result = UpdateFeedTask.delay(feed_url=request.GET["url"])
    return HttpResponse(result.task_id)


def update_urgently(request):
    result = apply_async(UpdateFeedTask, args=[request.GET["url"]], priority=9)
    return HttpResponse(result.task_id)


def count(request):
    return HttpResponse(str(delay_task("feeds.count_words", request.GET["text"])))
