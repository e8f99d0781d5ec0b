"""Functions on tensors: each folder is one operation, and this package knows nothing of recipes or files.

    storage        widen, widen_difference, narrow, add_scaled_narrow: stored bytes ↔ float32
    weighted_sum   Σ w_t x_t, every product and sum rounded on its own
    gram           inner products of all pairs, one float64 partial for each BLOCK elements
    kth_magnitude  the exact k-th largest |x| from histograms that add up in any order
    trim_elect     the element-wise part of TIES: trim, elect a sign, merge what agrees
    random_drop    DARE: drop entries at random, divide the rest by the share that stays
    rank_drop      MagPrune: the same with chances that rise by magnitude within a row; both with what merges the rest
    keep_band      the entries between two thresholds of magnitude
    consensus      a sum of task vectors where enough tasks own the entry
    changed_mean   means over the models that changed an entry at all
    selection      the elements in which models are furthest apart: their squares, and what they merge to
    stitch         owned entries of task vectors, averaged over their owners
    competition    how strongly each parameter competes within and between tasks
    ternary        bitplanes of −, 0 and +: packed, unpacked, added up or elected straight onto a base
    gap_code       the same near the entropy: gaps in Golomb code, in blocks that decode by themselves
    moments        Σx, Σx² and sums of what lies beyond a threshold, one float64 partial for each BLOCK elements
    low_rank_add   out += scale · up · down on any run of elements
    philox         random numbers as a pure function of (seed, name, ingredient, element index)

Import an operation from its folder: `from kernels.weighted_sum import weighted_sum`. In each folder
`reference.py` is the definition in plain torch, `cpu.py` the same arithmetic in numba, `triton_kernel.py`
(where there is one) the same on a GPU, and `__init__.py` checks arguments.

On the CPU a tensor is a numpy array, because importing torch costs 1.4 to 2.0 s and numba 0.2 s, and a
command that merges small files should not wait for it. On a GPU it is a torch tensor. Every operation takes
either (`dispatch.py`), and none imports torch until it is given a torch tensor.

Arithmetic is float32 with one rounding per operation and no contraction, so that the bytes do not depend on
the number of threads, the chunk size or the machine.
"""
