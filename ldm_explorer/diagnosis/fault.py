"""What a fault is: one thing of a sampling run that was right, and how it is broken and fixed."""

from dataclasses import dataclass, replace
from typing import Literal

from ldm_explorer.diagnosis.changes import Change

Symptom = Literal["latents_std", "class_probability", "psnr_to_original", "roughness", "contrast"]


@dataclass(frozen=True)
class Fault:
    title: str
    what_happens: str
    fix: str  # the line of code or config
    symptom: Symptom  # the measure that gives it away
    inject: Change
    fixed: Change  # undoes what was injected
    base: Change = lambda sampling: sampling  # the right run beside which it shows
    in_folder: bool = False  # it can lie in a checkpoint's files; the others lie in calling code
    lab_run: str | None = None  # the right run of checkpoints/lab beside which it shows; None: any checkpoint's
    broken_run: str | None = None  # for a fault of training, the run of checkpoints/lab that has it
    found_by: tuple[str, ...] = ()  # the checks of a diagnosis that find it in a folder
    along: Literal["betas", "a flow"] | None = None  # where alone there is such a fault; None: along either
    elsewhere: str = ""  # and why not along the other
    along_a_flow: tuple[str, str] | None = None  # what happens there and the fix, where they are others
    harmless: str | None = None  # for one that does next to no harm here, the number that says so

    def told_along(self, path: Literal["betas", "a flow"]) -> "Fault":
        """The same in the words for what it does along such a path."""
        if path == "betas" or self.along_a_flow is None:
            return self
        what_happens, fix = self.along_a_flow
        return replace(self, what_happens=what_happens, fix=fix)
