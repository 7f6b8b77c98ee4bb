"""From a figure to bytes: the same figure gives the same bytes, whatever the machine's settings."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from holdfast.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Format = Literal["png", "svg"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

#: Pixels per inch: sizes are given in pixels, and matplotlib counts in inches.
DPI: Final = 100

#: matplotlib's settings belong to the whole process: one figure at a time changes them, and puts
#: them back.
_settings = threading.Lock()


def installed(module: str, *, wanted_by: str) -> None:
    """Raises `ConfigError` where a module of the extra ``plots`` is not installed."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        raise ConfigError(
            f"{wanted_by} needs {module}, which is not installed",
            hint="pip install 'holdfast[plots]'",
        )


def rendered(
    draw: Callable[[], Figure], format: Format, *, style: dict[str, Any], salt: str
) -> bytes:
    """Returns a figure as PNG or SVG.

    Args:
        draw: Makes the figure.
        format: ``"png"`` or ``"svg"``.
        style: matplotlib's settings while it is made and written, over matplotlib's own defaults.
        salt: What the names of an SVG's parts are made with; two pictures on one page need two.

    Raises:
        ConfigError: matplotlib is not installed.
    """
    installed("matplotlib", wanted_by="a chart")
    import matplotlib as mpl

    buffer = io.BytesIO()
    with _settings, mpl.rc_context(), warnings.catch_warnings():
        # A name in letters that its font does not have is drawn as boxes; a browser has others.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        # A matplotlibrc of the user's would make it another picture.
        mpl.rcdefaults()
        settings: Any = mpl.rcParams
        settings.update(style)
        # Names come from runs: a dollar sign in one does not begin a formula.
        settings["text.parse_math"] = False
        settings["svg.hashsalt"] = salt
        # Text as text: small, found by a search, read aloud.
        settings["svg.fonttype"] = "none"
        # Nothing of when and with what it was made.
        unsaid = {"Date": None, "Creator": None} if format == "svg" else {"Software": None}
        draw().savefig(buffer, format=format, metadata=unsaid)
    return buffer.getvalue()
