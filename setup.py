"""How celery is packaged; the settings of the tools are in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).resolve().parent


def read(name: str) -> str:
    """Return the text of a file beside this one."""
    return (HERE / name).read_text(encoding="utf-8")


def version() -> str:
    """Read the version as text: importing the package would need what is not installed yet."""
    found = re.search(r"^VERSION\b.*=\s*\((\d+), (\d+), (\d+)\)", read("celery/__init__.py"), re.MULTILINE)
    if found is None:
        raise RuntimeError("celery/__init__.py has no line 'VERSION = (major, minor, micro)'")
    return ".".join(found.groups())


POSTGRES = ["psycopg[binary]>=3.2"]
MYSQL = ["PyMySQL>=1.1"]
REDIS = ["redis>=6.4", "packaging"]  # what the transport of kombu imports
MEMCACHED = ["pymemcache>=4.0"]
PROGRESS = ["tqdm>=4.66"]
DOCS = ["Sphinx>=8.0", "furo"]
FUZZ = ["atheris>=3.0"]  # guides the cases of tests/fuzz; they run without it, too
TEST = [
    *POSTGRES,
    *MYSQL,
    *REDIS,
    *MEMCACHED,
    *PROGRESS,
    "build>=1.2",
    "coverage>=7.10",
    "django-stubs>=5.2",
    "hypothesis>=6.100",
    "mypy>=1.15",
    "nox>=2025.5",
    "pytest>=8.3",
    "pytest-django>=4.11",
    "pytest-randomly>=3.16",
    "pytest-timeout>=2.3",
    "pytest-xdist>=3.6",
    "PyYAML>=6.0",
    "rich>=13.9",
    "ruff>=0.17,<0.18",  # all rules are on, and each release brings new ones
    "selenium>=4.30",
    "setuptools>=77",
    "types-PyMySQL",
    "types-PyYAML",
    "types-tqdm",
]

setup(
    name="celery",
    version=version(),
    description="A task queue for Django: on your database from the first minute, on RabbitMQ by one setting",
    long_description=read("README.rst"),
    long_description_content_type="text/x-rst",
    author="The celery contributors",
    license="BSD-3-Clause",
    license_files=["LICENSE", "AUTHORS"],
    keywords=["django", "task", "job", "queue", "worker", "amqp", "rabbitmq"],
    packages=find_packages(include=["celery", "celery.*"]),
    package_data={"celery": ["py.typed", "templates/**/*.html", "static/**/*"]},
    python_requires=">=3.11",
    install_requires=["Django>=5.2", "kombu>=5.7", "billiard>=4.3", "cronsim>=2.6"],
    extras_require={
        "postgres": POSTGRES,
        "mysql": MYSQL,
        "redis": REDIS,
        "memcached": MEMCACHED,
        "progress": PROGRESS,
        "docs": DOCS,
        "fuzz": FUZZ,
        "test": TEST,
    },
    entry_points={"console_scripts": ["celeryd = celery.bin.entry:main"]},
    zip_safe=False,
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: No Input/Output (Daemon)",
        "Framework :: Django",
        "Framework :: Django :: 5.2",
        "Framework :: Django :: 6.0",
        "Framework :: Django :: 6.1",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: System :: Distributed Computing",
        "Typing :: Typed",
    ],
)
