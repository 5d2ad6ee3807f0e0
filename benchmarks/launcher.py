"""Give `accelerate launch` each setting of docs/training.md's table, and see that it is honoured or refused.

What is honoured trains a denoiser that Ctrl-C stops, goes on with the second setting of its row, and is compared with a
run that nobody stopped, bit for bit. What is refused has to end before any step with the sentence of its row. On a CPU.
`python benchmarks/launcher.py [ROW ...]`
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from helpers import draw_shapes, same_weights
from safetensors.torch import load_file
from torchvision.transforms.functional import to_pil_image

from ldm_explorer.run_layout import LOG_FILE
from ldm_explorer.training import latest_state

REPO = Path(__file__).resolve().parents[1]
LAUNCH = [sys.executable, "-m", "accelerate.commands.launch"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
OPTIONS = ["--layers-per-block", "1", "--threads", "1", "--image-side", "32", "--max-steps"]
DENOISER = ["--widths", "16", "32", "--batch-size", "4", "--log-every-steps", "1"]
STEPS, STOPPED_AFTER = 60, 5


@dataclass(frozen=True)
class Row:
    """A setting, the one that the run goes on with, and what comes of it."""

    launcher: str = ""  # options, or variables where they begin with capitals
    then: str | None = None  # None: the same
    equals: str | None = None  # the setting of a run that nobody stopped; None where rounding differs
    ours: str = "--precision fp32"
    refused: str = ""  # a pattern
    refused_then: str = ""
    several: bool = False  # two processes by torchrun, which leaves variables as they are
    moved: str = ""  # "same" or "other" images lie under another path when it goes on


ACCUMULATED = "ACCELERATE_GRADIENT_ACCUMULATION_STEPS=4"
ROWS = {
    "dynamo, then without": Row("--dynamo_backend eager", "", equals=""),
    "without, then dynamo": Row("", "--dynamo_backend eager", equals=""),
    "dynamo by blocks": Row("--dynamo_backend eager --dynamo_use_regional_compilation", "", equals=""),
    "inductor, then without": Row("--dynamo_backend inductor", ""),
    "no such compiler": Row("ACCELERATE_DYNAMO_BACKEND=none", refused="as its backend give one of", several=True),
    "accumulation": Row(ACCUMULATED, equals=ACCUMULATED),
    "accumulation by option": Row("--gradient_accumulation_steps 4", ACCUMULATED, equals=ACCUMULATED),
    "accumulation by ours": Row("", ours="--precision fp32 --gradient-accumulation-steps 4", equals=ACCUMULATED),
    "accumulation, then without": Row(ACCUMULATED, "", refused_then="gradient_accumulation_steps = 4, not 1"),
    "two accumulations": Row(ACCUMULATED, ours="--gradient-accumulation-steps 2", refused="is 2, and .* was told 4"),
    "two processes, accumulation": Row(ACCUMULATED, equals=ACCUMULATED, several=True),
    "clipping": Row("--gradient_clipping 0.5", refused="--grad-clip-norm is 1.0, and .* was told 0.5"),
    "bf16": Row("--mixed_precision bf16", ours="", equals="--mixed_precision bf16"),
    "bf16, then without": Row("--mixed_precision bf16", "", ours="", refused_then="precision = bf16, not auto"),
    "bf16 and fp32": Row("--mixed_precision bf16", refused="--precision is fp32, and .* was told bf16"),
    "no": Row("--mixed_precision no", ours="", equals=""),
    "fp16": Row("--mixed_precision fp16", ours="", refused="fp16 is for GPUs"),
    "fp8": Row("ACCELERATE_MIXED_PRECISION=fp8", ours="", refused="asks for fp8", several=True),
    "DeepSpeed": Row("ACCELERATE_USE_DEEPSPEED=true", refused="asks for DeepSpeed"),
    "FSDP": Row("ACCELERATE_USE_FSDP=true", refused="asks for FSDP"),
    "Megatron-LM": Row("ACCELERATE_USE_MEGATRON_LM=true", refused="asks for Megatron-LM"),
    "tensor parallelism": Row("ACCELERATE_USE_PARALLELISM_CONFIG=true", refused="asks for a parallelism config"),
    "TPU": Row("--downcast_bf16", refused="for TPUs"),
    "two processes on a CPU": Row("--num_processes 2", refused="torchrun --nproc_per_node"),
    "threads, affinity, debug": Row("--num_cpu_threads_per_process 1 --enable_cpu_affinity --debug", equals=""),
    "mistyped tracker": Row(ours="--tracker tensorbord", refused="unknown --tracker tensorbord: choose one of"),
    "moved images": Row(equals="", moved="same"),
    "other images": Row(moved="other", refused_then="bring back what it began with"),
}


class Case:
    """One folder of images, an autoencoder of them, and runs of a denoiser."""

    def __init__(self, folder: Path):
        self.folder, self.images, self.wholes = folder, folder / "images", dict[tuple, Path]()
        self.images.mkdir()
        for number, image in enumerate(draw_shapes(80, seed=0).images):
            to_pil_image(image).save(self.images / f"{number}.png")
        vae = [*OPTIONS, "20", "--widths", "16", "--latent-size", "8", "--dataset", f"folder:{self.images}"]
        command = [*LAUNCH, "--cpu", "train/vae.py", *vae, "--out", str(folder / "vae")]
        subprocess.run(command, cwd=REPO, check=True, capture_output=True)

    def start(self, row: Row, setting: str, out: Path) -> subprocess.Popen:
        words = setting.split()
        variables = dict(word.split("=", 1) for word in words if word[0].isupper())
        launcher = TORCHRUN if row.several else [*LAUNCH, "--cpu", *(word for word in words if not word[0].isupper())]
        command = [*launcher, "train/ldm.py", *OPTIONS, str(STEPS), *DENOISER, *row.ours.split(), "--resume"]
        command += ["--vae", str(self.folder / "vae"), "--dataset", f"folder:{self.images}", "--out", str(out)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"} | variables
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "start_new_session": True, "text": True}
        return subprocess.Popen(command, cwd=REPO, env=environment, **pipes)

    def whole(self, row: Row, setting: str) -> Path:
        """The run with a setting that nobody stopped, trained once."""
        key = setting, row.several
        if key not in self.wholes:
            self.wholes[key] = self.folder / f"whole-{len(self.wholes)}"
            ours = "" if "--mixed_precision" in setting else "--precision fp32"
            output, _ = self.start(Row(ours=ours, several=row.several), setting, self.wholes[key]).communicate()
            assert last_state(self.wholes[key]) == STEPS, output
        return self.wholes[key]

    def stopped(self, row: Row, out: Path) -> str:
        """Let a run get ahead and stop it; what it printed."""
        process, log = self.start(row, row.launcher, out), out / LOG_FILE
        while process.poll() is None and (not log.exists() or log.read_text().count("\n") < STOPPED_AFTER):
            time.sleep(0.002)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGINT)
        return process.communicate()[0]

    def move(self, same: bool) -> None:
        """Put the images elsewhere, or give them other names."""
        self.images = self.images.rename(self.folder / f"elsewhere-{len(list(self.folder.iterdir()))}")
        for path in [] if same else self.images.iterdir():
            path.rename(path.with_stem(f"other-{path.stem}"))


def last_state(run_dir: Path) -> int:
    state = latest_state(run_dir)
    return int(state.name.removeprefix("state-")) if state else 0


def outcome(case: Case, name: str, row: Row) -> tuple[bool, str]:
    """Whether a row comes out as it should, and how."""
    out = case.folder / re.sub(r"\W+", "-", name)
    output = case.stopped(row, out)
    if row.refused:
        return bool(re.search(row.refused, output)) and not last_state(out), said(output)
    if not 0 < (step := last_state(out)) < STEPS:
        return False, f"stopped at {step}: {said(output)}"
    if row.moved:
        case.move(row.moved == "same")
    output, _ = case.start(row, row.launcher if row.then is None else row.then, out).communicate()
    if row.refused_then:
        return bool(re.search(row.refused_then, output)) and last_state(out) == step, said(output)
    if last_state(out) != STEPS:
        return False, said(output)
    if row.equals is None:
        return True, f"stopped at {step}, finished"
    state = f"state-{STEPS:09d}/state.safetensors"
    equal = same_weights(*(load_file(folder / state) for folder in (out, case.whole(row, row.equals))))
    return equal, f"stopped at {step}, {'equal' if equal else 'NOT equal'} to the bit"


def said(output: str) -> str:
    """The sentence that a command ended with."""
    lines = [line for line in output.splitlines() if line.startswith("error: ")]
    return lines[0] if lines else output[-500:]


def main() -> None:
    chosen = sys.argv[1:] or list(ROWS)
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        case = Case(Path(folder))
        for name in chosen:
            right, how = outcome(case, name, ROWS[name])
            failed += [] if right else [name]
            print(f"{'ok ' if right else 'NOT'} {name:28} {how}", flush=True)
    sys.exit(f"not as they should be: {', '.join(failed)}" if failed else 0)


if __name__ == "__main__":
    main()
