"""The directives ``celery-settings`` and ``celery-checks``: a description of every setting, and of every check.

`settings_text` and `checks_text` have the words.
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, ClassVar

import checks_text
import settings_text
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

from celery import checks, conf
from celery.conf import project, worker

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata


class Described(SphinxDirective):
    """A page whose text is made of the code."""

    #: Returns the lines; the files that these are made of.
    page: ClassVar[Callable[[], Sequence[str]]]
    sources: ClassVar[Sequence[str | None]]

    def run(self) -> list[nodes.Node]:
        """Parse the description where the directive stands."""
        for source in filter(None, self.sources):
            self.env.note_dependency(source)
        described = nodes.Element()
        lines = StringList(list(type(self).page()), source=str(self.sources[0]))
        nested_parse_with_titles(self.state, lines, described, self.content_offset)
        return described.children


class SettingsDirective(Described):
    """``.. celery-settings::``."""

    page = settings_text.page
    sources = (conf.__file__, project.__file__, worker.__file__, settings_text.__file__)


class ChecksDirective(Described):
    """``.. celery-checks::``."""

    page = checks_text.page
    sources = (checks.__file__, checks_text.__file__)


def setup(app: "Sphinx") -> "ExtensionMetadata":
    """Register the directives."""
    app.add_directive("celery-settings", SettingsDirective)
    app.add_directive("celery-checks", ChecksDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
