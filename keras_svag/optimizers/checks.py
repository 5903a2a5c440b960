"""Checks that the options of an optimizer go with its amplification."""

from keras_svag.optimizers import scaling


def check_supported(optimizer, ell):
    """Raises a `ValueError` if an option of an SVAG optimizer cannot be used with `ell`."""
    if optimizer.gradient_accumulation_steps:
        raise ValueError(
            "`gradient_accumulation_steps` is not supported: it averages batches with equal "
            "weights, and SVAG weights two of them differently. Received: "
            f"gradient_accumulation_steps={optimizer.gradient_accumulation_steps}. "
            "Use a larger batch size instead."
        )
    for name in ("clipnorm", "clipvalue", "global_clipnorm"):
        value = getattr(optimizer, name)
        if value is not None and ell > 1:
            raise ValueError(
                f"`{name}` cannot be used with `ell > 1`: the amplified gradient would be clipped "
                f"more often than that of SGD, which biases it. Received: {name}={value}, "
                f"ell={ell}. Set ell=1 or remove `{name}`."
            )
    if optimizer.ema_overwrite_frequency and ell != 1:
        raise ValueError(
            "`ema_overwrite_frequency` must be None unless `ell` is 1: it counts steps, and "
            "amplification takes `ell` times as many. Received: "
            f"ema_overwrite_frequency={optimizer.ema_overwrite_frequency}, ell={ell}. "
            "Call `finalize_variable_values` after training instead."
        )
    limit = scaling.max_kappa(optimizer)
    if ell < 1 and 1 / ell >= limit:
        raise ValueError(
            f"`ell` must be above {1 / limit:.6g} for "
            f"{', '.join(scaling.scaled_decay_rates(optimizer))}: 1 - b is divided by ell, and b "
            f"must stay above 0. Received: ell={ell}. Use a larger ell."
        )
