"""The command that serves the app: its options, and which checkpoints it shows."""

import argparse
import logging
import os
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from ldm_explorer.explore.library import open_library
from ldm_explorer.explore.opened import MayOpen
from ldm_explorer.shipped import VARIABLE, find_shipped_checkpoints
from ldm_explorer.ui.page import build_page
from ldm_explorer.ui.server.clients import on_a_space
from ldm_explorer.ui.server.launch import launch
from ldm_explorer.ui.server.limits import LIMITS
from ldm_explorer.ui.server.turns import give_way_between_modules
from ldm_explorer.ui.temporary import temporary_folder

MAX_PORT = 65_535


def parse_options(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Look inside latent diffusion models.")
    parser.add_argument("--host", default=None, help="address to listen on (default: this machine only)")
    parser.add_argument("--port", type=_port, default=None, help="port (default: the first free one from 7860)")
    parser.add_argument("--share", action="store_true", help="make a temporary public link")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        default=None,
        help="folder of checkpoints to show beside the shipped ones; where none are shipped it takes their place",
    )
    parser.add_argument(
        "--open",
        choices=["nothing", "own", "hub"],
        default=None,
        help="what the page opens beside the checkpoints: own, folders and ids of the Hugging Face Hub for who sits at "
        "this machine; hub, ids also for every visitor (default: own, but nothing on a Space or with --share)",
    )
    parser.add_argument(
        "--limits",
        choices=list(LIMITS),
        default="on",
        help="what one client may ask for at once; off is for a machine that only you use",
    )
    parser.add_argument(
        "--mcp", action="store_true", help="serve what the app answers as tools of an MCP server, too (docs/api.md)"
    )
    return parser.parse_args(arguments)


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: give 1 to {MAX_PORT}")
    return int(text)


def folders_to_show(given: Path | None) -> list[Path]:
    """The shipped checkpoints and those of `--checkpoints`, each folder once.

    Where nothing is shipped, the classifiers and the lab are looked for in the given folder, too.
    """
    if given is not None:
        os.environ.setdefault(VARIABLE, str(given))
    shipped = find_shipped_checkpoints()
    if shipped and given and os.path.realpath(shipped) == os.path.realpath(given):
        return [shipped]
    return [folder for folder in (shipped, given) if folder]


def what_may_be_opened(given: str | None, share: bool) -> MayOpen:
    """Where others' requests come through a tunnel or the proxy of a Space, nobody is known to sit at this machine."""
    alone = not (share or on_a_space())
    return MayOpen(own=alone and given != "nothing", hub_for_all=given == "hub")


def main(arguments: list[str] | None = None) -> None:
    options = parse_options(arguments)
    if options.mcp and find_spec("mcp") is None:
        sys.exit("error: --mcp needs the package mcp, which is not here: install it with `pip install 'gradio[mcp]'`")
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    limits = LIMITS[options.limits]
    give_way_between_modules()
    print("Reading checkpoints and drawing the page ...", flush=True)
    library = open_library(*folders_to_show(options.checkpoints), tested=find_shipped_checkpoints())
    for skip in library.skipped:
        print(f"skipped: {skip.reason}")
    try:
        with temporary_folder():
            may_open = what_may_be_opened(options.open, options.share)
            page = build_page(replace(library, max_gflops=limits.gflops, may_open=may_open))
            launch(
                page.app,
                limits,
                server_name=options.host,
                server_port=options.port,
                share=options.share,
                mcp=options.mcp,
                **page.options,
            )
            page.app.block_thread()
    except OSError as error:
        sys.exit(f"error: the app cannot start, {error}: give another --host or --port")
