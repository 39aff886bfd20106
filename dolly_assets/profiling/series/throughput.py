"""How fast a training is: the one definition of tokens per second and of the FLOPs utilization.

Both are over *training time*: from the start of an epoch's first step to the end of its last one,
without the time in which the state was saved. The checkpoint of an epoch, its profile, reports,
comparisons and the console all get their figures from here.
"""


def tokens_per_second(real_tokens: float, training_seconds: float) -> float:
    """Return the tokens of the examples that are trained on in a second of training time.

    Args:
        real_tokens: Tokens of the examples, of all ranks; padding is not counted.
        training_seconds: The time in which they were trained on, see the module.
    """
    return real_tokens / max(training_seconds, 1e-9)


def flops_utilization(flops: float, rank_seconds: float, peak_flops: float) -> float:
    """Return the model FLOPs utilization (MFU), 0 to 1.

    As in PaLM (https://arxiv.org/abs/2204.02311, appendix B).

    Args:
        flops: Operations of the model, without recomputation.
        rank_seconds: Training time, summed over the ranks that share the operations.
        peak_flops: Of one rank's device, in operations per second.
    """
    return flops / max(rank_seconds, 1e-9) / peak_flops
