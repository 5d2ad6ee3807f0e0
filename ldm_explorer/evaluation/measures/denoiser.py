"""Measures of a denoiser: the images that it generates, what that costs, and what its loss is."""

from operator import attrgetter, methodcaller

from ldm_explorer.evaluation.measures.measure import Measure

FURTHER = {"plain": "a plain convolutional network", "tokens": "a small vision transformer"}
FURTHER_FDS = tuple(f"fd_{name}_percent" for name in FURTHER)

GENERATION = (
    Measure(
        name="fd_percent",
        section="generation",
        title="FD",
        unit="%",
        definition="Fréchet distance of samples to the test images in the 64 features of a small classifier trained "
        "here, in percent of the features' total variance; compares with no published FID.",
        better="lower",
        beside=("fd_percent_spread", "fd_floor_percent", "fd_decoded_noise_percent", *FURTHER_FDS),
        source="Heusel et al. 2017",
        of=lambda inputs: inputs.fd_percent,
    ),
    Measure(
        name="fd_percent_spread",
        section="generation",
        title="spread over sampling seeds",
        unit="%",
        label="spread",
        definition="Largest minus smallest FD over the sampling seeds.",
        better="lower",
    ),
    Measure(
        name="fd_floor_percent",
        section="real",
        title="floor of FD",
        unit="%",
        label="other real images",
        definition="FD of as many held-out real images, which the classifier never saw.",
        better="lower",
        of=lambda inputs: inputs.fd_percent,
    ),
    Measure(
        name="fd_decoded_noise_percent",
        section="generation",
        title="FD of decoded noise",
        unit="%",
        label="noise",
        definition="FD of decoded standard normal latents: what no denoiser at all would generate.",
        better="lower",
    ),
    *(
        Measure(
            name=f"fd_{name}_percent",
            section="generation",
            title=f"FD by {name}",
            unit="%",
            label=f"by {name}",
            definition=f"The same in the features of {network}, of another seed and used for nothing else.",
            better="lower",
            beside=(f"fd_{name}_floor_percent",),
            of=methodcaller("further_fd_percent", name),
        )
        for name, network in FURTHER.items()
    ),
    *(
        Measure(
            name=f"fd_{name}_floor_percent",
            section="real",
            title=f"floor of FD by {name}",
            unit="%",
            label="other real images",
            definition="That of as many held-out real images, which the network never saw.",
            better="lower",
            of=methodcaller("further_fd_percent", name),
        )
        for name in FURTHER
    ),
    Measure(
        name="precision",
        section="generation",
        title="precision",
        definition="Share of samples near a real image: within the distance to its 5th neighbour in the features.",
        better="higher",
        beside=("precision_of_real",),
        source="Kynkäänniemi et al. 2019",
        of=lambda inputs: inputs.variety.precision,
        in_app=False,
    ),
    Measure(
        name="recall",
        section="generation",
        title="recall",
        definition="Share of real images near a sample: within the distance to its 5th neighbour.",
        better="higher",
        beside=("recall_of_real",),
        source="Kynkäänniemi et al. 2019",
        of=lambda inputs: inputs.variety.recall,
        in_app=False,
    ),
    Measure(
        name="density",
        section="generation",
        title="density",
        definition="Real images' neighbourhoods that a sample lies in, over 5; it can exceed 1.",
        better="higher",
        beside=("density_of_real",),
        source="Naeem et al. 2020, eq. 4",
        of=lambda inputs: inputs.variety.density,
        in_app=False,
    ),
    Measure(
        name="coverage",
        section="generation",
        title="coverage",
        definition="Share of real images with a sample in their neighbourhood.",
        better="higher",
        beside=("coverage_of_real",),
        source="Naeem et al. 2020, eq. 5",
        of=lambda inputs: inputs.variety.coverage,
    ),
    *(
        Measure(
            name=f"{name}_of_real",
            section="real",
            title=f"{name} of real images",
            label="real",
            definition=f"The {name} of as many held-out real images.",
            better="higher",
            of=attrgetter(f"variety.{name}"),
            in_tables=False,
        )
        for name in ("precision", "recall", "density", "coverage")
    ),
    Measure(
        name="class_consistency",
        section="generation",
        title="class consistency",
        definition="Share of samples that the classifier gives the label they were made for; well above its accuracy, "
        "variety is lost.",
        better="higher",
        beside=("classifier_accuracy",),
        of=lambda inputs: inputs.class_consistency,
    ),
    Measure(
        name="classifier_accuracy",
        section="real",
        title="classifier's accuracy",
        label="classifier",
        definition="Share of the test images that the classifier gives their own label.",
        better="higher",
        of=lambda inputs: inputs.reference.classifier_accuracy,
    ),
    Measure(
        name="copying_ratio",
        section="generation",
        title="copying ratio",
        definition="Median pixel distance of samples to their nearest training image, over that of reconstructed test "
        "images: 1 if nothing is copied.",
        better="higher",
        beside=("copying_near_share",),
        of=lambda inputs: inputs.copying.ratio_of_medians,
    ),
    Measure(
        name="copying_near_share",
        section="generation",
        title="near share",
        label="near",
        definition="Share of samples nearer to a training image than 99 % of reconstructed test images are: .01 if "
        "nothing is copied.",
        better="lower",
        of=lambda inputs: inputs.copying.near_share,
    ),
    Measure(
        name="latents_std",
        section="generation",
        title="latent std",
        definition="Standard deviation of generated latents: 1 for those that training saw.",
        better="neither",
        in_app=False,
    ),
)
COST = (
    Measure(
        name="encode_gflops",
        section="cost",
        title="GFLOPs encode",
        definition="1e9 floating-point operations to encode an image.",
        better="lower",
    ),
    Measure(
        name="decode_gflops",
        section="cost",
        title="GFLOPs decode",
        definition="The same to decode a latent.",
        better="lower",
    ),
    Measure(
        name="evaluation_gflops",
        section="cost",
        title="GFLOPs/evaluation",
        definition="The same for one evaluation of the denoiser, without guidance.",
        better="lower",
    ),
    Measure(
        name="gflops_per_image",
        section="derived",
        title="cost",
        unit="GFLOPs per image",
        definition="1e9 floating-point operations of a generated image: evaluations of the denoiser and one decode.",
        better="lower",
    ),
)
LOSS = (
    Measure(
        name="validation_last_tenth",
        section="loss",
        title="val loss",
        definition="Mean squared error of the prediction on held-out images, over the last tenth of the validations.",
        better="lower",
        beside=("gaussian_per_class", "gaussian", "white", "zero"),
    ),
    Measure(
        name="validation_minimum",
        section="loss",
        title="lowest val loss",
        definition="The lowest of all validations.",
        better="lower",
        in_tables=False,
    ),
    *(
        Measure(
            name=name,
            section="loss",
            title=title,
            label=f"{title} floor" if name in ("white", "gaussian") else title,
            definition=f"Floor of the loss: that of a denoiser that {knows}.",
            better="neither",
            source="arXiv 2506.13763",
            in_tables=not name.startswith("memorising"),
        )
        for name, title, knows in (
            ("gaussian_per_class", "class Gaussian", "knows the covariance of the latents of each class"),
            ("gaussian", "Gaussian", "knows the covariance of the latents"),
            ("white", "white", "knows the scale of the latents"),
            ("zero", "zero", "predicts nothing"),
            ("memorising", "memorising", "knows every training image"),
            ("memorising_per_class", "class memorising", "knows every training image of the class"),
        )
    ),
)
SPREADS = tuple(
    Measure(
        name=f"{measure.name}_spread",
        section="generation",
        title=f"spread of {measure.title} over sampling seeds",
        unit=measure.unit,
        label="spread",
        definition=f"Largest minus smallest {measure.title} over the sampling seeds.",
        better="lower",
        in_tables=False,
        in_app=False,
    )
    for measure in GENERATION
    if measure.section == "generation" and (measure.name in FURTHER_FDS or not measure.name.startswith("fd_"))
)
"""metrics.json keeps the spread of every measure of samples; these are those that no table shows."""
