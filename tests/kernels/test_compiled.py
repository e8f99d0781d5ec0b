import numpy as np
import pytest

from kernels.compiled import inlined, uncounted


@pytest.mark.parametrize("decorate", [uncounted, inlined])
@pytest.mark.parametrize("result", [lambda x: x, lambda x: (x, 1)])
def test_what_does_not_count_references_may_not_return_arrays(decorate, result) -> None:
    with pytest.raises(TypeError, match="returns an array"):
        decorate(result)(np.ones(3))


def test_what_does_not_count_references_may_not_make_arrays() -> None:
    with pytest.raises(Exception, match="NRT"):
        uncounted(lambda x: np.empty(3).sum() + x)(1.0)
