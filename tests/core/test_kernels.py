"""Which types of weights a processor computes with fast."""

from __future__ import annotations

import pytest

from offgridd.core.kernels import fast_types, main_type, speed_note


@pytest.mark.parametrize(
    ("quant", "kind"),
    [("Q4_K_M", "Q4_K"), ("UD-Q4_K_XL", "Q4_K"), ("Q4_0", "Q4_0"), ("Q6_K", "Q6_K"), ("IQ4_NL", "IQ4_NL"),
     ("Q3_K_L", "Q3_K"), ("MXFP4_MOE", "MXFP4"), ("IQ2_S", "IQ2_S"), ("Q2_K_S", "Q2_K"), ("F16", "F16")],
)  # fmt: skip
def test_most_weights_of_a_quant_are_of_one_type(quant: str, kind: str) -> None:
    assert main_type(quant) == kind


def test_what_is_said_of_a_type() -> None:
    assert speed_note("Q4_K_M", {"avx2"}) == "Q4_K has fast kernels on this CPU"
    assert speed_note("Q4_1", {"avx2"}) == "Q4_1 has no fast kernels on this CPU"
    assert "no fast" in speed_note("Q2_K", {"avx2"})
    assert "no fast" not in speed_note("Q2_K", {"avx2", "avx512f"})
    assert speed_note(None, {"avx2"}) == speed_note("Q4_K_M", frozenset()) == speed_note("APEX", {"avx2"}) == ""
    assert "Q8_0" in fast_types({"asimd", "asimddp"})
