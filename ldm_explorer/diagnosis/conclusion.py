"""What follows from the rung of a loss, in words: those of a run of ours and of anybody's log."""

from ldm_explorer.diagnosis.judge import MeanFloors, Rung


def conclusion(rung: Rung, floors: MeanFloors, of_class: bool, level: bool = False) -> str:
    """The end of a sentence that says where the loss is. `of_class` where the Gaussian floor is that of its class;
    `level` where the loss surely no longer falls."""
    zero, white, gaussian = floors.zero, floors.white, floors.gaussian or 0.0
    whose = f"the Gaussian floor{' of its class' if of_class else ''} ({gaussian:.3f})"
    match rung:
        case Rung.NOTHING_TO_LEARN:
            return (
                f"and every floor lies there: white {white:.3f}, a network that knows every training image "
                f"{floors.memorising:.3f}. These latents are next to noise, and there is nothing in them to be "
                "learned: look at the autoencoder, its KL weight is too high."
            )
        case Rung.NOTHING:
            return (
                f"above the {zero:.3f} of a network that knows the mean latent alone: it has hardly begun to learn, or "
                "training fell apart. Train longer; where the loss was lower before, lower the learning rate, warm "
                "up, clip gradients."
            )
        case Rung.SCALE:
            return (
                f"no better than the white floor ({white:.3f}): the network knows the scale of the latents at "
                f"most. {what_helps(level)}"
            )
        case Rung.PART_OF_COVARIANCE:
            knowing = "the covariance of each class" if of_class else "the latents' covariance"
            return (
                f"between {whose} and the white floor ({white:.3f}): so far the network knows less than {knowing} does."
            )
        case Rung.COVARIANCE:
            return f"at {whose}: the network knows the latents' means and covariances, and hardly more."
        case Rung.MORE_THAN_SCALE:
            return (
                f"below the white floor ({white:.3f}): the network knows more than the scale of the latents. How much "
                "more, their covariance would tell."
            )
    return f"below {whose}: the network has learned structure that means and covariances do not hold."


def what_helps(level: bool) -> str:
    """A network that knows no more than the scale."""
    if level:
        return "It is level, and more steps alone would change little: look for an error."
    return "Train longer, or look for an error."
