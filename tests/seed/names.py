"""The list: every module, name, parameter, setting and promise of the interface of 2009, and the old defects.

A row is a name below its module, with what it promises, and how it was called where that matters (without `self`). A
name with a space in it is no name but a promise; one that begins with "fix:" is a defect of 2009 that is not repeated.
"""

from typing import Final, NamedTuple


class Row(NamedTuple):
    """`called` are the classic parameters, which must still work by name and by position."""

    name: str
    promise: str
    called: str | None = None


_VERSIONS = (
    Row("VERSION", "three numbers: 0, 3, 0"),
    Row("__version__", "the same as text"),
    Row("is_stable_release", "an even minor number, or 1.0 and later", ""),
    Row("version_with_meta", "the version with its stability", ""),
    Row("below (4, 4, 7)", "so that instrumentation of Celery 4 and later stands down"),
)

_RESULTS = (
    Row("AsyncResult", "a pending result, kept by the default backend", "task_id"),
    Row("AsyncResult.task_id", "the task's id"),
    Row("AsyncResult.backend", "an instance of celery.backends.DefaultBackend"),
    Row("BaseAsyncResult", "a pending result, kept by a backend of its own", "task_id, backend"),
    Row("BaseAsyncResult.task_id", "the task's id"),
    Row("BaseAsyncResult.backend", "the backend that is asked"),
    Row("BaseAsyncResult.status", "PENDING, RETRY, FAILURE or DONE"),
    Row("status PENDING", "the task waits for its execution"),
    Row("status RETRY", "the task is to be tried again"),
    Row("status FAILURE", "the task raised, or was tried more often than its limit; result is the exception"),
    Row("status DONE", "the task succeeded; result is its value"),
    Row("BaseAsyncResult.result", "the value, the exception instance after a failure, else None"),
    Row("BaseAsyncResult.is_done", "only DONE", ""),
    Row("BaseAsyncResult.successful", "alias of is_done", ""),
    Row("BaseAsyncResult.ready", "DONE or FAILURE", ""),
    Row("fix: ready was always true", "false while the task waits, also for a retry"),
    Row("BaseAsyncResult.wait", "the value, or the task's own exception, or TimeoutError", "timeout=None"),
    Row("BaseAsyncResult.get", "alias of wait", ""),
    Row("BaseAsyncResult.__str__", "the id"),
    Row("BaseAsyncResult.__repr__", "<AsyncResult: id>"),
    Row("TaskSetResult", "the results of a task set", "taskset_id, subtask_ids"),
    Row("TaskSetResult.taskset_id", "the set's id"),
    Row("TaskSetResult.subtask_ids", "the ids of its tasks, in the order of the calls"),
    Row("TaskSetResult.subtasks", "an AsyncResult for each"),
    Row("TaskSetResult.total", "their number"),
    Row("TaskSetResult.itersubtasks", "iterates over them", ""),
    Row("TaskSetResult.successful", "all are DONE", ""),
    Row("TaskSetResult.failed", "at least one has failed", ""),
    Row("TaskSetResult.waiting", "at least one has not ended", ""),
    Row("TaskSetResult.ready", "all have ended", ""),
    Row("TaskSetResult.completed_count", "how many are DONE", ""),
    Row("TaskSetResult.iterate", "values as they arrive; the first exception is raised", ""),
    Row("TaskSetResult.iter", "alias of iterate", ""),
    Row("TaskSetResult.join", "waits; values in the order of the calls; TimeoutError", "timeout=None"),
    Row("fix: failed was true for unfinished tasks", "only a failure counts"),
    Row("fix: join and iterate spun", "they pause between two looks"),
)

_TASKS = (
    Row("tasks", "the registry"),
    Row("Task", "a task as a class"),
    Row("PeriodicTask", "a task by the clock"),
    Row("TaskSet", "many calls of one task", "task, args"),
    # functions
    Row(
        "apply_async",
        "sends a task with options; eta and countdown too",
        "task, args=None, kwargs=None, routing_key=None, immediate=None, mandatory=None, connect_timeout=None, "
        "priority=None, **options",
    ),
    Row("apply_async routing_key", "names the queue"),
    Row("apply_async immediate", "is accepted and treated as mandatory"),
    Row("apply_async mandatory", "is accepted; every message is mandatory"),
    Row("apply_async connect_timeout", "is accepted, and warns that it has no meaning any more"),
    Row("apply_async priority", "the larger one runs first"),
    Row("apply_async countdown", "runs after so many seconds, not before"),
    Row("apply_async eta", "runs after that moment, not before"),
    Row("delay_task", "sends a task by its name; NotRegistered", "task_name, *args, **kwargs"),
    Row("discard_all", "deletes what waits, and returns the number", ""),
    Row("is_done", "whether a task succeeded", "task_id"),
    Row("dmap", "maps a function over lists of arguments, by workers", "func, args, timeout=None"),
    Row("dmap_async", "the same as an AsyncResult of the list", "func, args, timeout=None"),
    Row("execute_remote", "has a worker call any function; AsyncResult", "func, *args, **kwargs"),
    Row("ExecuteRemoteTask", "the task behind execute_remote"),
    Row("AsynchronousMapTask", "the task behind dmap_async"),
    Row("DeleteExpiredTaskMetaTask", "periodic, daily: backend.cleanup()"),
    Row("fix: functions travelled pickled", "their importable names do, signed with SECRET_KEY"),
    Row("lambdas and local functions", "are refused with a clear error"),
    # Task
    Row("Task.name", "the name by which workers find it"),
    Row("fix: a name was required", "without one it is derived from module and class"),
    Row("Task.type", "regular"),
    Row("Task.max_retries", "how often a task is tried again"),
    Row("Task.retry_interval", "seconds or a timedelta before the next try"),
    Row("Task.auto_retry", "tries again without being asked when run raises"),
    Row("Task.routing_key", "the queue of the task"),
    Row("Task.immediate", "is accepted and treated as mandatory"),
    Row("Task.mandatory", "is accepted; every message is mandatory"),
    Row("Task.priority", "the larger one runs first"),
    Row("Task.ignore_result", "the value is not stored"),
    Row("Task.disable_error_emails", "its failures are not mailed"),
    Row("Task.run", "is the work; NotImplementedError without it", "*args, **kwargs"),
    Row("Task.__call__", "runs run here and now", "*args, **kwargs"),
    Row("Task.delay", "a class method: sends the task", "*args, **kwargs"),
    Row("Task.apply_async", "a class method: sends the task with options", "args=None, kwargs=None, **options"),
    Row("fix: class attributes won over options of the call", "the call wins"),
    Row("Task.retry", "ends this attempt and asks for another", "args, kwargs, exc=None, **options"),
    Row("Task.requeue", "sends the task again under its id", "task_id, args, kwargs"),
    Row("Task.get_logger", "a logger for the task's own lines", "**kwargs"),
    Row("Task.get_publisher", "a TaskPublisher", ""),
    Row("Task.get_consumer", "a TaskConsumer of its queue", ""),
    # default keyword arguments
    Row("default argument task_id", "is passed to run"),
    Row("default argument task_name", "is passed to run"),
    Row("default argument logfile", "is passed to run"),
    Row("default argument loglevel", "is passed to run"),
    Row("default arguments only where accepted", "by name or by **kwargs; others are called without them"),
    # TaskSet
    Row("TaskSet.task_name", "the name of its task"),
    Row("TaskSet.arguments", "the list of [args, kwargs]"),
    Row("TaskSet.total", "their number"),
    Row("TaskSet.run", "sends all calls; TaskSetResult", ""),
    Row("TaskSet.iterate", "runs, and yields values as they arrive", ""),
    Row("TaskSet.join", "runs and waits; values in the order of the calls", "timeout=None"),
    Row("TaskSet.remote_execute", "a set of calls of any function", "func, args"),
    Row("TaskSet.map", "as dmap", "func, args, timeout=None"),
    Row("TaskSet.map_async", "as dmap_async", "func, args, timeout=None"),
    # PeriodicTask
    Row("PeriodicTask.run_every", "a timedelta or seconds; required"),
    Row("PeriodicTask.type", "periodic"),
    Row("periodic tasks run by the clock", "each due moment once"),
)

_REGISTRY = (
    Row("tasks", "the registry of this process"),
    Row("TaskRegistry", "a dictionary of tasks by name"),
    Row("TaskRegistry.register", "takes a class, an instance or a function", "task, name=None"),
    Row("register a class", "an instance of it is registered"),
    Row("register an instance", "under its own name"),
    Row("register a function", "sets its name and type"),
    Row("register task_name=", "another word for name"),
    Row("TaskRegistry.unregister", "by task or by name; NotRegistered", "name"),
    Row("TaskRegistry.autodiscover", "finds the tasks of all applications", ""),
    Row("TaskRegistry.get_all", "all tasks by name", ""),
    Row("TaskRegistry.filter_types", "the tasks of one type", "type"),
    Row("TaskRegistry.get_all_regular", "the regular ones", ""),
    Row("TaskRegistry.get_all_periodic", "the periodic ones", ""),
    Row("TaskRegistry.get_task", "one by its name", "name"),
    Row("NotRegistered", "no task has this name"),
    Row("AlreadyRegistered", "two tasks claim one name"),
    Row("TaskRegistry.NotRegistered", "the same class, as an attribute"),
    Row("TaskRegistry.AlreadyRegistered", "the same class, as an attribute"),
)

_DISCOVERY = (
    Row("autodiscover", "imports the module tasks of each installed application; returns the modules", ""),
    Row("find_related_module", "the module of an application, or None", "app, related_name"),
    Row("fix: an ImportError inside a tasks module was swallowed", "it is raised"),
)

_WORKER = (
    Row(
        "WorkController",
        "a worker of so many processes",
        "concurrency=None, logfile=None, loglevel=None, queue_wakeup_after=None, is_detached=False",
    ),
    Row("WorkController.run", "works until told to stop", ""),
    Row("options without a meaning today", "queue_wakeup_after and is_detached warn"),
    Row("TaskWrapper", "a call with its task", "task_name, task_id, task_func, args, kwargs"),
    Row("TaskWrapper.from_message", "makes one of a message; UnknownTask", "message, logger"),
    Row("TaskWrapper.execute", "runs it here; the value or an ExceptionInfo", "loglevel=None, logfile=None"),
    Row("TaskWrapper.execute_using_pool", "runs it in a pool", "pool, loglevel=None, logfile=None"),
    Row("TaskWrapper.on_success", "is called after the value is stored", "ret_value, meta"),
    Row("TaskWrapper.on_failure", "is called after the failure is stored", "exc_info, meta"),
    Row("TaskWrapper.extend_with_default_kwargs", "keyword arguments with the default ones", "loglevel, logfile"),
    Row("jail", "runs a function: value or ExceptionInfo, stored as DONE or FAILURE", "task_id, func, args, kwargs"),
    Row("UnknownTask", "a message for a task that is not registered here"),
    Row("EmptyQueue", "there is no message; for code that catches it"),
    Row("error e-mail", "to ADMINS: host, task, id and exception in the subject, traceback in the body"),
    Row("no error e-mail while DEBUG", "unless SEND_CELERY_TASK_ERROR_EMAILS says so"),
)

_BACKENDS = (
    Row("get_backend_cls", "database is celery.backends.database.Backend; dotted names as they are", "name"),
    Row("get_default_backend_cls", "what CELERY_BACKEND names", ""),
    Row("get_default_periodicstatus_backend_cls", "what CELERY_PERIODIC_STATUS_BACKEND names", ""),
    Row("DefaultBackend", "what CELERY_BACKEND names"),
    Row("DefaultPeriodicStatusBackend", "what CELERY_PERIODIC_STATUS_BACKEND names"),
    Row("default_backend", "an instance of it"),
    Row("default_periodic_status_backend", "an instance of it"),
    Row("fix: settings were frozen and models loaded at import", "names are resolved at their first use"),
)

_BASE_BACKEND = (
    Row("BaseBackend", "what all backends have"),
    Row("BaseBackend.capabilities", "ResultStore, and PeriodicStatus of the database"),
    Row("BaseBackend.store_result", "stores a value or an exception", "task_id, result, status"),
    Row("BaseBackend.mark_as_done", "stores DONE", "task_id, result"),
    Row("BaseBackend.mark_as_failure", "stores FAILURE", "task_id, exc"),
    Row("BaseBackend.mark_as_retry", "stores RETRY", "task_id, exc"),
    Row("BaseBackend.get_status", "the state; PENDING if unknown", "task_id"),
    Row("BaseBackend.get_result", "the value or the exception", "task_id"),
    Row("BaseBackend.is_done", "only DONE", "task_id"),
    Row("BaseBackend.wait_for", "waits for a value or raises", "task_id, timeout=None"),
    Row("BaseBackend.prepare_result", "makes a value fit to be stored", "result"),
    Row("BaseBackend.prepare_exception", "makes an exception fit to be stored", "exc"),
    Row("BaseBackend.exception_to_python", "the way back"),
    Row("BaseBackend.create_exception_cls", "a class that stands in for one that is not here", "name, module"),
    Row("BaseBackend.cleanup", "deletes what has expired", ""),
    Row("find_nearest_pickleable_exception", "the nearest base class that can travel, or None", "exc"),
    Row("UnpickleableExceptionWrapper", "stands for an exception", "exc_module, exc_cls_name, exc_args"),
    Row("fix: None was stored as True", "None stays None"),
)

_DATABASE_BACKEND = (
    Row("Backend", "results in a table", ""),
    Row("Backend.run_periodic_tasks", "sends what is due", ""),
)

_CACHE_BACKEND = (Row("Backend", "results in one of Django's caches", ""),)

_TYRANT_BACKEND = (
    Row("Backend", "results in Tokyo Tyrant", "tyrant_host=None, tyrant_port=None"),
    Row("Backend.get_server", "the connection", ""),
    Row("without TT_HOST and TT_PORT", "ImproperlyConfigured"),
)

_CONF = (
    # what travels through RabbitMQ
    Row("AMQP_EXCHANGE", "CELERY_AMQP_EXCHANGE: the exchange of messages"),
    Row("AMQP_EXCHANGE_TYPE", "CELERY_AMQP_EXCHANGE_TYPE: its type"),
    Row("AMQP_PUBLISHER_ROUTING_KEY", "CELERY_AMQP_PUBLISHER_ROUTING_KEY: messages are published with it"),
    Row("AMQP_CONSUMER_ROUTING_KEY", "CELERY_AMQP_CONSUMER_ROUTING_KEY: the queue is bound by it"),
    Row("AMQP_CONSUMER_QUEUE", "CELERY_AMQP_CONSUMER_QUEUE: the queue"),
    # the daemon
    Row("DAEMON_CONCURRENCY", "CELERYD_CONCURRENCY: child processes; without it one a CPU"),
    Row("QUEUE_WAKEUP_AFTER", "CELERYD_QUEUE_WAKEUP_AFTER: accepted, and a check says that it has no meaning"),
    Row("EMPTY_MSG_EMIT_EVERY", "CELERYD_EMPTY_MSG_EMIT_EVERY: accepted, and a check says that it has no meaning"),
    Row("DAEMON_PID_FILE", "CELERYD_PID_FILE: the daemon's pid file"),
    Row("DAEMON_LOG_FILE", "CELERYD_LOG_FILE: the daemon's log file"),
    Row("LOG_FORMAT", "CELERYD_DAEMON_LOG_FORMAT: the form of log lines"),
    Row("DAEMON_LOG_LEVEL", "CELERYD_DAEMON_LOG_LEVEL: what is logged"),
    Row("SEND_CELERY_TASK_ERROR_EMAILS", "whether failures are mailed; without it: not DEBUG"),
    Row("LOG_LEVELS", "names and numbers of the levels"),
    # defaults beside them
    Row("DEFAULT_AMQP_EXCHANGE", "celery"),
    Row("DEFAULT_AMQP_EXCHANGE_TYPE", "direct"),
    Row("DEFAULT_AMQP_PUBLISHER_ROUTING_KEY", "celery"),
    Row("DEFAULT_AMQP_CONSUMER_ROUTING_KEY", "celery"),
    Row("DEFAULT_AMQP_CONSUMER_QUEUE", "celery"),
    Row("DEFAULT_DAEMON_CONCURRENCY", "the number of CPUs"),
    Row("DEFAULT_QUEUE_WAKEUP_AFTER", "0.3"),
    Row("DEFAULT_EMPTY_MSG_EMIT_EVERY", "5"),
    Row("DEFAULT_DAEMON_PID_FILE", "celeryd.pid"),
    Row("DEFAULT_DAEMON_LOG_FILE", "celeryd.log"),
    Row("DEFAULT_LOG_FORMAT", "a format of the logging module"),
    Row("DEFAULT_DAEMON_LOG_LEVEL", "INFO"),
    Row("DEFAULT_SEND_CELERY_TASK_ERROR_EMAILS", "not DEBUG"),
    # results
    Row("CELERY_BACKEND", "the result backend: database"),
    Row("CELERY_PERIODIC_STATUS_BACKEND", "the backend of periodic tasks: database"),
    Row("CELERY_TASK_RESULT_EXPIRES", "how long results are kept: 5 days"),
    Row("CELERY_ALWAYS_EAGER", "tasks run where they are sent"),
    # addresses
    Row("AMQP_HOST", "where RabbitMQ is"),
    Row("AMQP_SERVER", "another word for it"),
    Row("AMQP_PORT", "its port"),
    Row("AMQP_USER", "the user"),
    Row("AMQP_PASSWORD", "the password"),
    Row("AMQP_VHOST", "the virtual host"),
    Row("TT_HOST", "where Tokyo Tyrant is"),
    Row("TT_PORT", "its port"),
)

_MODELS = (
    Row("TaskMeta", "the row of a result"),
    Row("TaskMeta.task_id", "the task's id"),
    Row("TaskMeta.status", "its state"),
    Row("TaskMeta.result", "its value"),
    Row("TaskMeta.date_done", "when it was done"),
    Row("TaskMeta.__str__", "<Task: id done:STATUS>"),
    Row("PeriodicTaskMeta", "the row of a periodic task"),
    Row("PeriodicTaskMeta.name", "the task's name"),
    Row("PeriodicTaskMeta.last_run_at", "when it was last sent"),
    Row("PeriodicTaskMeta.total_run_count", "how often it was sent"),
    Row("PeriodicTaskMeta.task", "the task of that name"),
    Row("PeriodicTaskMeta.delay", "sends it now", ""),
    Row("PeriodicTaskMeta.__str__", "<PeriodicTask: name [last-run:..., total-run:n]>"),
)

_MANAGERS = (
    Row("TaskManager.get_task", "the row of a task", "task_id"),
    Row("fix: reading created a row", "it does not"),
    Row("TaskManager.is_done", "only DONE", "task_id"),
    Row("TaskManager.get_all_expired", "what is older than CELERY_TASK_RESULT_EXPIRES", ""),
    Row("TaskManager.delete_expired", "deletes that", ""),
    Row("TaskManager.store_result", "stores a value or an exception", "task_id, result, status"),
    Row("PeriodicTaskManager.get_waiting_tasks", "the rows of what is due", ""),
)

_MESSAGING = (
    Row("TaskPublisher", "publishes tasks", "connection=None"),
    Row("TaskPublisher.delay_task", "sends a task and returns its id", "task_name, task_args, task_kwargs, **opts"),
    Row(
        "TaskPublisher.delay_task_in_set",
        "the same as a part of a set",
        "task_name, taskset_id, task_args, task_kwargs, **opts",
    ),
    Row(
        "TaskPublisher.requeue_task",
        "sends it again under its id",
        "task_name, task_id, task_args, task_kwargs, **opts",
    ),
    Row("a publisher is a context manager", "with TaskPublisher(...) as publisher"),
    Row("TaskConsumer", "takes messages", "connection=None"),
    Row("TaskConsumer.discard_all", "deletes what waits, and returns the number", ""),
    Row("TaskConsumer.fetch", "the next message, or None", ""),
    Row("TaskConsumer.__iter__", "all messages that wait"),
    Row("a consumer is a context manager", "with TaskConsumer(...) as consumer"),
    Row("the body of a message", "id, task, args, kwargs, and taskset"),
)

_DATASTRUCTURES = (
    Row("PositionQueue", "a list that is filled in any order", "length"),
    Row("PositionQueue.full", "every position has its value", ""),
    Row("PositionQueue.filled", "the values that are there"),
    Row("PositionQueue.UnfilledPosition", "stands where there is none"),
    Row("PositionQueue.__len__", "how many are filled"),
    Row("ExceptionInfo", "an exception with its traceback as text", "exc_info"),
    Row("ExceptionInfo.exception", "the exception"),
    Row("ExceptionInfo.traceback", "the text"),
)

_TIMERS = (
    Row("TimeoutError", "the time is up"),
    Row("EventTimer", "calls something at intervals", "event, interval=None"),
    Row("EventTimer.tick", "calls it if it is time", ""),
    Row("TimeoutTimer", "raises when the time is up", "timeout, timeout_msg=None"),
    Row("TimeoutTimer.tick", "raises then", ""),
    Row("fix: a timeout of 0 meant no timeout", "the first tick raises"),
)

_LOG = (
    Row("setup_logger", "the worker's logger", "loglevel=None, logfile=None, format=None"),
    Row("emergency_error", "a line where logging itself is broken", "logfile, message"),
    Row("fix: the root logger and LOGGING were changed", "they are left alone"),
)

_PLATFORM = (
    Row("PIDFile", "a file with the daemon's pid", "path"),
    Row("PIDFile.get_pid", "the pid in it, or None", ""),
    Row("PIDFile.check", "removes a stale file; running: SystemExit", ""),
    Row("PIDFile.write", "writes our pid", ""),
    Row("PIDFile.remove", "removes it", ""),
    Row("fix: a pid that was reused by another program", "its file is stale"),
    Row("daemonize", "goes on in the background", "pidfile"),
    Row("fix: the log's own descriptor was closed", "it stays open"),
    Row("remove_pidfile", "removes a file that nobody holds", "pidfile"),
)

_CELERYD = (
    Row("-c --concurrency", "child processes"),
    Row("-f --logfile", "where the log goes"),
    Row("-l --loglevel", "what is logged"),
    Row("-p --pidfile", "where the pid is kept"),
    Row("-w --wakeup-after", "is accepted, and warns that it has no meaning any more"),
    Row("-d --daemon --detach", "goes to the background; CELERYD_LOG_FILE and CELERYD_PID_FILE are its files"),
    Row("main", "starts a worker by options", "**options"),
    Row("parse_options", "the options of a command line", "argv"),
    Row("the path of imports", "sys.path has the current folder and DJANGO_PROJECT_DIR"),
    Row("manage.py celeryd", "takes the same options"),
    Row("the console script celeryd", "is there"),
    Row("fix: SQLite forced one process", "it does not"),
)

_URLS = (
    Row("celery-is_task_done", "<task_id>/done/"),
    Row("celery-task_status", "<task_id>/status/"),
)

_VIEWS = (
    Row("is_task_done", "{'task': {'id', 'executed'}}", "request, task_id"),
    Row("task_status", "{'task': {'id', 'status', 'result'}}", "request, task_id"),
    Row("a failure is shown as data", "never as an error 500"),
)

SEED: Final = {
    "celery": _VERSIONS,
    "celery.task": _TASKS,
    "celery.result": _RESULTS,
    "celery.registry": _REGISTRY,
    "celery.discovery": _DISCOVERY,
    "celery.worker": _WORKER,
    "celery.backends": _BACKENDS,
    "celery.backends.base": _BASE_BACKEND,
    "celery.backends.database": _DATABASE_BACKEND,
    "celery.backends.cache": _CACHE_BACKEND,
    "celery.backends.tyrant": _TYRANT_BACKEND,
    "celery.conf": _CONF,
    "celery.datastructures": _DATASTRUCTURES,
    "celery.log": _LOG,
    "celery.managers": _MANAGERS,
    "celery.models": _MODELS,
    "celery.messaging": _MESSAGING,
    "celery.platform": _PLATFORM,
    "celery.timer": _TIMERS,
    "celery.bin.celeryd": _CELERYD,
    "celery.urls": _URLS,
    "celery.views": _VIEWS,
}
