"""A small real Django project: the demonstration shows it, the integration tests run it."""
