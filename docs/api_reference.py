"""What the API reference needs beyond autodoc: docstrings are plain prose, and this makes links of their names.

A name in single backticks is a link where it leads to something, and literal text where it does not: parameters,
values, expressions. Names of settings and of our exceptions are links wherever they stand as words.
"""

import builtins
import re
from collections.abc import Container, Iterable
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import settings_text
from docutils import nodes
from docutils.statemachine import StringList
from sphinx import addnodes
from sphinx.addnodes import pending_xref
from sphinx.roles import XRefRole
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import find_pending_xref_condition

from celery import conf, exceptions

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment
    from sphinx.util.typing import ExtensionMetadata

#: How autodoc writes the parameters of a function whose own stand for all of them.
PARAMETERS = re.compile(r"(\*\*?)(\w+): [\w.~]*~P\b")
KINDS = {"*": "args", "**": "kwargs"}
#: A dotted name of ours that stands in prose as it is.
DOTTED = re.compile(r"(?<![\w`.:<{'\"/])(celery(?:\.[A-Za-z_]\w*)+)(?![\w`>}'\"/])")
#: A word that is no part of a longer name, of a role, or of literal text.
WORD = re.compile(r"(?<![\w`.:<{'\"])([A-Z]\w+)(?![\w`>}'\"]|\.\w)")
TABLE = re.compile(r"^\s*={3,} ")
OURS = {name for name in exceptions.__all__ if getattr(exceptions, name).__module__ == exceptions.__name__}


class Name(XRefRole):
    """The default role: a link to an object of Python, or literal text."""

    innernodeclass = nodes.literal

    def process_link(
        self,
        env: "BuildEnvironment",
        refnode: nodes.Element,
        has_explicit_title: bool,  # noqa: FBT001 - Sphinx calls it so
        title: str,
        target: str,
    ) -> tuple[str, str]:
        del has_explicit_title
        refnode["refdomain"], refnode["reftype"] = "py", "obj"
        refnode["may_lead_nowhere"] = True
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        return title, target.partition("(")[0]


def found_elsewhere(
    app: "Sphinx", env: "BuildEnvironment", node: pending_xref, contnode: nodes.TextElement
) -> nodes.Element | None:
    """Find what is documented under another name than is written: a shorter one, or that of another module."""
    if node.get("refdomain") != "py":
        return None
    target, python = node["reftarget"], env.domains["py"]
    for name in [*_shorter(target, python.modules), *_in_any_module(target, python.objects)]:
        found = python.resolve_xref(env, node["refdoc"], app.builder, "obj", name, _without_context(node), contnode)
        if found is not None:
            return found
    may_be_text = node.get("may_lead_nowhere") and (not target.startswith("celery.") or _exists(target))
    return contnode if may_be_text else None


def _shorter(target: str, modules: Container[str]) -> list[str]:
    """Return the names that a class or function of one of our modules has in the packages around that."""
    first, *inner = target.split(".")
    if first != "celery":
        return []
    shorter = [".".join([first, *inner[: end - 1], inner[-1]]) for end in range(len(inner) - 1, 0, -1)]
    return [name for name in shorter if name not in modules]


def _in_any_module(target: str, known: Iterable[str]) -> list[str]:
    """Return the names that end in `target` if that is the name of a class, the shortest first."""
    is_class = target.isidentifier() and target[0].isupper() and not target.isupper()
    return sorted((name for name in known if name.endswith(f".{target}")), key=len) if is_class else []


def _exists(name: str) -> bool:
    """Tell whether a name of ours that has no page is one at all: docstrings grow old."""
    module, _, last = name.rpartition(".")
    try:
        return hasattr(import_module(module), last) or bool(import_module(name))
    except ImportError:
        return False


def _without_context(node: pending_xref) -> pending_xref:
    bare = node.copy()
    for name in ("py:module", "py:class", "refspecific"):
        bare.attributes.pop(name, None)
    return bare


def link_words(app: "Sphinx", _what: str, _name: str, _object: Any, _options: object, lines: list[str]) -> None:
    """Make links of the settings and exceptions that a docstring names; not in its tables and examples."""
    app.env.note_dependency(__file__)
    if any(TABLE.match(line) for line in lines):
        return
    is_example = False
    for number, line in enumerate(lines):
        is_example = bool(line.strip()) and (is_example or line.lstrip().startswith(">>>"))
        if not is_example and line.count("`") % 2 == 0:
            lines[number] = WORD.sub(_link, DOTTED.sub(r"`\1`", line))


def unlink_builtins(_app: object, doctree: nodes.document) -> None:
    """Have types such as `type` lead nowhere, rather than to an attribute of ours with that name."""
    for node in list(doctree.findall(pending_xref)):
        if node.get("refdomain") == "py" and hasattr(builtins, node["reftarget"]) and "may_lead_nowhere" not in node:
            node.replace_self((find_pending_xref_condition(node, "resolved") or node).children)


def open_parameters(_app: object, doctree: nodes.document) -> None:
    """Write ``Callable[P, R]`` and ``Callable[..., R]`` as in the code, where Sphinx puts one more pair of brackets."""
    needless: list[nodes.Node] = []
    for node in doctree.findall(addnodes.desc_sig_punctuation):
        following = node.parent.children[node.parent.index(node) :][:4]
        if "".join(map(_target_or_text, following)) in {"[[P]", "[[...]"}:
            needless += [following[1], following[3]]
    for node in needless:
        node.parent.remove(node)


def _target_or_text(node: nodes.Node) -> str:
    return str(node["reftarget"]) if isinstance(node, pending_xref) else node.astext()


def name_parameters(
    _app: object, _what: str, _name: str, _object: Any, _options: object, signature: str | None, answer: str | None
) -> tuple[str | None, str | None]:
    """Write signatures as in the code: ``*args: P.args``, and ``...`` for a default that is made anew."""
    if signature is None:
        return None, answer
    named = PARAMETERS.sub(lambda found: f"{found[1]}{found[2]}: P.{KINDS[found[1]]}", signature)
    return named.replace("~collections.abc.Callable[[~P], ", "Callable[P, ").replace("<factory>", "..."), answer


def _link(found: re.Match[str]) -> str:
    word = found.group(1)
    if word in conf.BY_NAME:
        return f":confval:`{word}`"
    return f":exc:`~celery.exceptions.{word}`" if word in OURS else word


class Constants(SphinxDirective):
    """``.. celery-constants::``: every constant of `celery.conf`, with its setting."""

    def run(self) -> list[nodes.Node]:
        """Parse the description where the directive stands."""
        for source in [*Path(conf.__file__).parent.glob("conf*.py"), settings_text.__file__]:
            self.env.note_dependency(str(source))
        described = nodes.Element()
        lines: list[str] = []
        for topic, settings in conf.TOPICS.items():
            lines += [f".. rubric:: {topic}", "", *(line for setting in settings for line in constant(setting))]
        self.state.nested_parse(StringList(lines, source=conf.__file__), self.content_offset, described)
        return described.children


def constant(setting: conf.Setting) -> list[str]:
    """Return the lines that describe the constant of one setting."""
    kinds = " | ".join(kind.__name__ for kind in setting.types)
    default = settings_text.default(setting)
    return [
        f".. py:data:: {setting.constant}",
        f"   :type: {kinds if setting.default is not None else f'{kinds} | None'}",
        "",
        f"   The setting :confval:`{setting.name}`. By default {default}.",
        "",
    ]


def setup(app: "Sphinx") -> "ExtensionMetadata":
    """Register role, directive and listeners."""
    app.add_role("name", Name())
    app.add_directive("celery-constants", Constants)
    app.connect("autodoc-process-docstring", link_words)
    app.connect("autodoc-process-signature", name_parameters)
    app.connect("doctree-read", unlink_builtins)
    app.connect("doctree-read", open_parameters)
    app.connect("missing-reference", found_elsewhere)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
