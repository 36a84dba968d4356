"""What Streamlit runs for every visitor and after every click."""

from scripts.app.shell import show_app

show_app()
