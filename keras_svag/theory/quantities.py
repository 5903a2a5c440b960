"""The names of R, N and G in records and in results."""

WEIGHT_NORM, NOISE, SIGNAL = "weight_norm", "gradient_noise", "gradient_signal"
QUANTITIES = (WEIGHT_NORM, NOISE, SIGNAL)
NAMES = {
    WEIGHT_NORM: "squared weight norm R",
    NOISE: "gradient noise N",
    SIGNAL: "gradient signal G",
}
