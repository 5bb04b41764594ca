"""Random data that hypothesis draws, for several tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

normals = hnp.arrays(
    np.float32,
    st.integers(1, 60),
    elements=st.floats(2.0**-40, 2.0**40, width=32).flatmap(
        lambda x: st.sampled_from([x, -x, 0.0])
    ),
)
