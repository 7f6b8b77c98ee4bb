"""Headers that every answer carries: what a browser may do with it."""

from __future__ import annotations

from typing import Final

#: What the pages load comes from here; nothing from outside. NiceGUI's pages hold scripts and
#: styles of their own, and its client makes functions out of text.
_PAGES: Final[tuple[str, ...]] = (
    "default-src 'self'",
    "script-src 'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data: blob:",
    "font-src 'self' data:",
    "worker-src 'self' blob:",
    "object-src 'none'",
    "base-uri 'self'",
    "form-action 'self'",
    "frame-ancestors 'none'",
)
#: All else is JSON, text, or one form.
_REST: Final[tuple[str, ...]] = (
    "default-src 'none'",
    "style-src 'unsafe-inline'",
    "form-action 'self'",
    "base-uri 'none'",
    "frame-ancestors 'none'",
)
_ALWAYS: Final = (
    (b"x-content-type-options", b"nosniff"),
    # Not "no-referrer": browsers would send "Origin: null" with a form.
    (b"referrer-policy", b"same-origin"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
)


def for_answer(path: str, host: str) -> list[tuple[bytes, bytes]]:
    """Returns the headers of an answer.

    Args:
        path: What was asked for.
        host: The ``Host`` header, once it was admitted.
    """
    # Browsers differ in whether 'self' holds for websockets.
    sockets = f"connect-src 'self' ws://{host} wss://{host}"
    policy = (*_PAGES, sockets) if is_page(path) else _REST
    found = [*_ALWAYS, (b"content-security-policy", "; ".join(policy).encode("latin-1"))]
    if not is_page(path):
        found.append((b"cache-control", b"no-store"))
    return found


def is_page(path: str) -> bool:
    """Returns whether a path is one of the pages', or of what they load."""
    return path == "/ui" or path.startswith("/ui/")
