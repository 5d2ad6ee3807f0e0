"""What was chosen in a room: a frozen model per room.

Its fields are the parameters of the page's address and of the room's endpoint, and name the controls that the room
shows (see `controls`). A name means the same in every room.
"""

from typing import TYPE_CHECKING, Annotated, Literal, Self, get_origin
from urllib.parse import parse_qs

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic.fields import FieldInfo

from ldm_explorer.diagnosis.checks import CHECKS
from ldm_explorer.diagnosis.denoisers import DENOISERS
from ldm_explorer.diagnosis.faults import FAULTS
from ldm_explorer.explore.denoising import MAX_IMAGES
from ldm_explorer.files import shown
from ldm_explorer.samplers import SamplerName

if TYPE_CHECKING:  # a type checker takes no Literal that is computed
    DenoiserName = str
    FaultName = str
    CheckName = str
else:
    DenoiserName = Literal[tuple(DENOISERS)]
    FaultName = Literal[tuple(FAULTS)]
    CheckName = Literal["", *(check.name for check in CHECKS)]

MAX_SEED = 2**31 - 1
MAX_PARAMETERS = 100
MAX_TIMESTEPS = 4000
MIN_BETA, MAX_BETA = 1e-6, 0.9
OF_B = "b."
"""Before the name of a parameter that B has another value of."""
TOGETHER = ("class_name", "number", "upload", "seed", "sizes", "second_class", "second_number")
"""What A and B have in common: they are compared on the same image and from the same noise."""

Name = Annotated[str, Field(max_length=300)]
Checkpoint = Annotated[Name, Field(title="Checkpoint")]
ClassName = Annotated[Name, Field(title="Class", description="of the test image, and of what is generated")]
Number = Annotated[int, Field(title="Test image", description="its number within the class", ge=1)]
Upload = Annotated[str | None, Field(title="Your image", description="path of an uploaded file", max_length=1000)]
Seed = Annotated[int, Field(title="Seed", description="image i has seed + i", ge=0, le=MAX_SEED)]
Steps = Annotated[
    int | None,
    Field(title="Steps", description="evaluations of the network; left out: the checkpoint's own", ge=1, le=250),
]
Guidance = Annotated[
    float, Field(title="Guidance scale", description="above 1: more typical of the class, less varied", ge=1, le=8)
]
NumTimesteps = Annotated[
    int, Field(title="T, number of timesteps", description="of every schedule", ge=10, le=MAX_TIMESTEPS)
]
BetaStart = Annotated[
    float, Field(title="beta at t = 0", description="cosine has no beta range", ge=MIN_BETA, le=MAX_BETA)
]
BetaEnd = Annotated[
    float, Field(title="beta at t = T - 1", description="cosine has no beta range", ge=MIN_BETA, le=MAX_BETA)
]
Sampler = Annotated[SamplerName | None, Field(title="Sampler", description="left out: the checkpoint's own")]
Denoiser = Annotated[DenoiserName, Field(title="Denoiser")]
Size = Annotated[Name, Field(title="Size", description="the checkpoint whose pictures are shown")]
Sizes = Annotated[
    tuple[Name, ...], Field(title="Sizes to compare", description="checkpoints; none: one of each size", max_length=100)
]
SecondClass = Annotated[Name, Field(title="Second image: class", description="empty: another one than the first's")]
SecondNumber = Annotated[int, Field(title="Second image", description="its number within the class", ge=1)]
Run = Annotated[Name, Field(title="Run")]
Case = Annotated[Literal["", "0.34"], Field(title="Case", description="in place of the run")]
Fault = Annotated[FaultName, Field(title="Fault")]
Cause = Annotated[CheckName, Field(title="Found in it", description="by a check of Diagnosis; in place of the fault")]
Stride = Annotated[int, Field(title="DDIM step", description="timesteps that it goes back from t", ge=1, le=1000)]
Classes = Annotated[
    Literal["chosen", "each"], Field(title="Classes", description="the chosen class, or one image of each at least")
]
Images = Annotated[int, Field(title="Images", description="of seed, seed + 1, ...", ge=1, le=MAX_IMAGES)]


class Settings(BaseModel):
    """What a room was asked."""

    model_config = ConfigDict(frozen=True)

    @classmethod
    def read(cls, query: str) -> tuple[Self, Self | None]:
        """A and B of a query string; B has A's values but for those that stand after `b.`, None where none does.

        Parameters of other rooms are left out. Raises `ValueError` with one sentence for a value that does not fit.
        """
        try:
            values = parse_qs(query, keep_blank_values=True, max_num_fields=MAX_PARAMETERS)
        except ValueError:
            raise ValueError(f"the address has more than {MAX_PARAMETERS} parameters: give fewer") from None
        of_b = {name.removeprefix(OF_B): value for name, value in values.items() if name.startswith(OF_B)}
        other = cls._of(values | of_b) if of_b.keys() & cls.model_fields.keys() else None
        return cls._of(values), other

    @classmethod
    def _of(cls, values: dict[str, list[str]]) -> Self:
        """Of several values of one name the last counts, but where a list is wanted."""
        known = {name: field for name, field in cls.model_fields.items() if name in values}
        many = {name for name, field in known.items() if get_origin(field.annotation) is tuple}
        try:
            return cls.model_validate({name: values[name] if name in many else values[name][-1] for name in known})
        except ValidationError as error:
            raise ValueError(sentence(error, cls)) from None


class OfCheckpoint(Settings):
    """A checkpoint alone."""

    checkpoint: Checkpoint


def sentence(error: ValidationError, settings: type[Settings]) -> str:
    """The first thing that does not fit, with the name that the page gives it."""
    first = error.errors()[0]
    name = str(first["loc"][0])
    label = settings.model_fields[name].title or name if name in settings.model_fields else name
    if first["type"] == "missing":
        return f"{label} is missing: give {name}"
    wanted = first["msg"].removeprefix("Input should be ").split(", unable to parse")[0]
    if first["type"] in ("greater_than_equal", "less_than_equal"):
        wanted = _range(settings.model_fields[name])
    return f"{label} is {shown(first['input'])}: give {wanted}"


def _range(field: FieldInfo) -> str:
    """The numbers that a field takes, in words."""
    bounds = {name: getattr(bound, name) for bound in field.metadata for name in ("ge", "le") if hasattr(bound, name)}
    return f"{bounds['ge']:,} to {bounds['le']:,}" if len(bounds) == 2 else f"at least {bounds['ge']:,}"
