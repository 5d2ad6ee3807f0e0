"""Give the folders of denoisers the code that diffusers loads them by: `python tools/add_pipeline.py checkpoints/*/*`.

For runs from before there was any, and for the shipped ones after `ldm_explorer/standalone_pipeline.py` has changed.
Weights are left as they are; what is no run of a denoiser is passed over.
"""

import sys
from pathlib import Path

from ldm_explorer.checkpoints import write_pipeline_index
from ldm_explorer.claims import locked
from ldm_explorer.files import read_json
from ldm_explorer.run_folder import RunFolder
from ldm_explorer.run_layout import PIPELINE_FILE


def main(folders: list[Path]) -> None:
    for run in map(RunFolder, folders):
        if run.is_marked and run.has(PIPELINE_FILE):
            try:
                with locked(run):
                    write_pipeline_index(run, read_json(run.path / PIPELINE_FILE))
            except OSError as error:
                sys.exit(f"error: {error}")
            print(f"wrote the pipeline of {run.path}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
