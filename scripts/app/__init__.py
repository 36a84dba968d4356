"""The web page: `synthlabel app` starts it, one module a page draws it. The only home of Streamlit."""

from scripts.app.command import app as commands

__all__ = ["commands"]
