"""Serves the page with Streamlit's server, which asks nobody outside and reports to nobody."""

from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dolly_assets.core.errors import ConfigurationError
from dolly_assets.core.urls import LOOPBACK
from dolly_assets.playground.guard import Guard
from dolly_assets.playground.setup import Setup, use

PAGE = Path(__file__).with_name("app.py")
MOST_UPLOAD_MIB = 5  # of a conversation
_COLORS = {
    "theme.light.primaryColor": "#3d56c9",
    "theme.light.backgroundColor": "#ffffff",
    "theme.light.secondaryBackgroundColor": "#f4f5f9",
    "theme.light.textColor": "#1f2330",
    "theme.light.borderColor": "#dcdfe8",
    "theme.dark.primaryColor": "#8ea2ff",
    "theme.dark.backgroundColor": "#14161d",
    "theme.dark.secondaryBackgroundColor": "#1d2029",
    "theme.dark.textColor": "#e7e9f0",
    "theme.dark.borderColor": "#333846",
    "theme.baseRadius": "medium",
    "theme.showWidgetBorder": True,
}
_OPTIONS: dict[str, Any] = {
    "browser.gatherUsageStats": False,
    "client.showErrorDetails": "none",
    "client.showErrorLinks": False,
    "client.toolbarMode": "minimal",
    "logger.hideWelcomeMessage": True,
    "logger.level": "warning",
    "runner.magicEnabled": False,
    "server.enableAgentApi": False,
    "server.enableStaticServing": False,
    "server.fileWatcherType": "none",
    "server.headless": True,
    "server.maxUploadSize": MOST_UPLOAD_MIB,
    "server.runOnSave": False,
}


def check_installed() -> None:
    """Raise ConfigurationError if the packages of the playground are missing."""
    try:
        import openai  # noqa: F401
        import streamlit  # noqa: F401  # pyright: ignore[reportMissingImports] optional
    except ImportError as error:
        raise ConfigurationError(
            f"the playground needs {error.name}, which is not installed: "
            "pip install 'dolly_assets[playground]'"
        ) from error


def serve(setup: Setup, host: str, port: int, url: str | None) -> None:
    """Serve the page until the process is asked to end.

    Args:
        setup: What the page works with.
        host: Address to listen on.
        port: Port to listen on.
        url: The address that browsers use, if it is another one. Its path is the one below which
            the page is served.
    """
    import streamlit  # pyright: ignore[reportMissingImports] optional
    from starlette.middleware import Middleware
    from streamlit.starlette import App  # pyright: ignore[reportMissingImports]

    use(setup)
    public = urlsplit(url or "")
    hosts = LOOPBACK | {host.lower(), public.hostname or "localhost"}
    index = Path(str(streamlit.__file__)).with_name("static") / "index.html"
    guard = Middleware(Guard, hosts=hosts, index=index.read_text())  # pyright: ignore[reportArgumentType]
    App(PAGE, middleware=[guard]).run(
        config={
            **_OPTIONS,
            **_COLORS,
            "server.address": host,
            "server.port": port,
            "server.baseUrlPath": public.path.strip("/"),
        }
    )
