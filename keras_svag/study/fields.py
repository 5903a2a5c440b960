"""Fields of a config that nobody knows: one wording for all its parts."""


def refuse_unknown(prefix, fields, known, owner="the config"):
    """Raises at the first field that is not known.

    Args:
        prefix: what stands before the names, such as `"model."`.
        fields: dict.
        known: names of the fields that there are.
        owner: whose fields these are, for the message.

    Raises:
        ValueError: naming the field and those that there are.
    """
    for name in fields:
        if name not in known:
            raise ValueError(
                f"`{prefix}{name}` is not a field of {owner}; there are {', '.join(known)}. "
                f"Received: {prefix}{name}={fields[name]!r}"
            )
