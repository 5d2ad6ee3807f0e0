"""Start the explorer: `python app.py`. On a Hugging Face Space this file is the `app_file`."""

import argparse
import logging
import sys
from dataclasses import replace
from pathlib import Path

from ldm_explorer.explore.library import SHIPPED_CHECKPOINTS, open_library
from ldm_explorer.ui import CSS, THEME, build_app
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS
from ldm_explorer.ui.temporary import temporary_folder


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look inside latent diffusion models.")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=int, default=None, help="port (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="make a temporary public link")
    parser.add_argument(
        "--checkpoints", type=Path, default=None, help="folder of checkpoints to show beside the shipped ones"
    )
    parser.add_argument(
        "--limits",
        choices=list(LIMITS),
        default="on",
        help="what one client may ask for at once; off is for a machine that only you use",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    limits = LIMITS[options.limits]
    print("Reading checkpoints and drawing the page ...", flush=True)
    library = open_library(*filter(None, [SHIPPED_CHECKPOINTS, options.checkpoints]))
    for skip in library.skipped:
        print(f"skipped: {skip.reason}")
    try:
        with temporary_folder():
            app = build_app(replace(library, max_gflops=limits.gflops))
            launch(
                app,
                limits,
                server_name=options.host,
                server_port=options.port,
                share=options.share,
                theme=THEME,
                css=CSS,
            )
            app.block_thread()
    except OSError as error:
        sys.exit(f"error: the app cannot start, {error}: give another --host or --port")


if __name__ == "__main__":
    main()
