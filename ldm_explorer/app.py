"""Start the app: `ldm-explorer [--checkpoints DIR]`; in a checkout also `python app.py`."""

import sys


def main(arguments: list[str] | None = None) -> None:
    """Serve the page until Ctrl-C. Ends with a sentence where it cannot start, or the app's extra is not installed."""
    try:
        from ldm_explorer.ui import command
    except ModuleNotFoundError as error:
        if str(error.name).startswith("ldm_explorer"):
            raise
        sys.exit(f"error: the app needs {error.name}, which is not installed: pip install 'ldm-explorer[app]'")
    command.main(arguments)


if __name__ == "__main__":
    main()
