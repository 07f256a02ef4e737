"""Tests of celery, and what they stand on: a demonstration project and private servers."""
