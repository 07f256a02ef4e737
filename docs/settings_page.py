"""The directive ``celery-settings``: a description of every setting; `settings_text` has the words."""

from typing import TYPE_CHECKING

import settings_text
from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

from celery import conf

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.util.typing import ExtensionMetadata


class SettingsDirective(SphinxDirective):
    """``.. celery-settings::``."""

    def run(self) -> list[nodes.Node]:
        """Parse the description where the directive stands."""
        for source in (conf.__file__, settings_text.__file__):
            self.env.note_dependency(source)
        described = nodes.Element()
        self.state.nested_parse(StringList(settings_text.page(), source=conf.__file__), self.content_offset, described)
        return described.children


def setup(app: "Sphinx") -> "ExtensionMetadata":
    """Register the directive."""
    app.add_directive("celery-settings", SettingsDirective)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
